"""What a run forgot, when, and where it would have kept more."""
