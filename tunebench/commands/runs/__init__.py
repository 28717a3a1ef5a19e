"""Runs: advice before one, what is printed of them, shares of the way, transfer, bundles."""
