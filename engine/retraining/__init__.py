"""Retraining: turn feedback into rows, train a new version, evaluate it with a gate, and promote it."""
