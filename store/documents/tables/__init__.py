"""Rows of the store, and what is read of the machine and the home folder."""
