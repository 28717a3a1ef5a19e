"""Probes: questions of general knowledge and of a data set by which forgetting is seen."""
