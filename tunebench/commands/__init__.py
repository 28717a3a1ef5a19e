"""The subcommands of `tunebench` and their output, except those that start and stop processes."""
