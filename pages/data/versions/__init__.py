"""Versions of a data set, side by side and row by row."""
