"""Is anything running, and what came out? The screen of all runs."""
