"""Runs: training, shares of the way from the base, bundles and their figures."""
