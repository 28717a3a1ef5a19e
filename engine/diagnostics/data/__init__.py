"""Findings about a data set."""
