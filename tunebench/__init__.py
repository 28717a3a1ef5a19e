"""The command line of Tunebench."""

__version__ = "0.2.0"
