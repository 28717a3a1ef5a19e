"""Models between a run and its base."""
