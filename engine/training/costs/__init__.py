"""Cost of a run: memory, time, and the timed steps that correct the estimate."""
