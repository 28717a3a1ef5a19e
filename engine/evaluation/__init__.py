"""Evaluations: whichever model on whichever rows, and a run's model at a share of the way from its base."""
