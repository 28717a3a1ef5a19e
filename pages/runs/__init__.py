"""Runs: the page of one run with its tabs, live and afterwards."""
