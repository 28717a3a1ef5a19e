"""Row-by-row comparison of runs and evaluations. Pure functions."""
