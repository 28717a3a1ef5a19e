"""Is it better: `evaluate`, `judge`, `round …`, `bias`."""
