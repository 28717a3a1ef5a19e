"""Verdicts on runs: gain, forgetting and memorization, and estimates before a launch."""
