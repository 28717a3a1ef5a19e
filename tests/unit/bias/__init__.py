"""Bias checks: their statistics, the built-in probe, users' files, and what the store keeps of them."""
