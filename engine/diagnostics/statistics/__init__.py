"""Intervals, tests and scores, whatever they are of."""
