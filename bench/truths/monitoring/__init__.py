"""Serving and its feedback: drift, candidates, labels, improvements."""
