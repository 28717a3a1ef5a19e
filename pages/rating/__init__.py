"""Rating rounds: people compare or label answers, and the results."""
