"""Comparison of runs: side by side, their differences, and the trade-off of gain, forgetting and cost."""
