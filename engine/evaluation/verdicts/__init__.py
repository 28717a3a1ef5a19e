"""Conclusions from the measurements of a run: better, forgotten, memorised, inconclusive. Pure functions."""
