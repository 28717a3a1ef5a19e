"""Probes: questions of general knowledge or from a data set, used to measure forgetting."""
