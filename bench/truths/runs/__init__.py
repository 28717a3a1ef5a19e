"""Verdicts on runs: what was gained, forgotten and learned by heart, and what is said before a launch."""
