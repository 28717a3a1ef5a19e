"""Analysis of a run's losses during and after training. Pure functions."""
