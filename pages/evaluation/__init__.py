"""Evaluations: the list, one evaluation, paired comparison, and the simulated accuracy of the statistics."""
