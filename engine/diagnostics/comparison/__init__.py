"""Runs, evaluations and slices against each other, and judges."""
