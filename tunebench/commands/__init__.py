"""The subcommands of `tunebench`, and what they print. Starting and stopping processes is not theirs."""
