"""Intervals, tests and figures, against published values and simulations."""
