"""Readers of files and other sources, row by row. `conversion` decides what a column means."""
