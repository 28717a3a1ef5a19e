"""Evaluations, probes, and what is gathered for verdicts."""
