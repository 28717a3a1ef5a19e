"""The overview: running jobs and the results of all runs."""
