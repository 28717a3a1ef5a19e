"""Evaluations: row selection, model answers, metrics, probes, and pure statistics and verdicts."""
