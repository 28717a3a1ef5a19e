"""Runs: the page of one run, live and finished."""
