"""Is it better: evaluations, a judge's preferences, bias, transfer."""
