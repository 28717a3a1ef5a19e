"""Evaluations: which rows, what a model makes of them, metrics, probes, and pure statistics and verdicts."""
