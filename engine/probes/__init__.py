"""What a model is asked beside the run's own rows: the suite, samples of the base, requests, tasks."""
