"""Importing a data set from a file or a hub."""
