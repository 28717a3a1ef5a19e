"""Gain against forgetting, over all runs."""
