"""The command line of Tunebench."""
