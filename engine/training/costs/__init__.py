"""What a run will take: memory, time, and the timed steps that correct the estimate."""
