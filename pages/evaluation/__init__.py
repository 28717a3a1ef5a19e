"""Evaluations: the list, one evaluation, two side by side, and the simulated truth of the statistics."""
