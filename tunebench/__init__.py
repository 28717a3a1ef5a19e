"""The command line of Tunebench."""

__version__ = "0.1.0"
