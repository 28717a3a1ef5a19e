"""Rating rounds: their answers, gathered, generated or from elsewhere."""
