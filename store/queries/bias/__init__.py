"""Questions about bias checks."""
