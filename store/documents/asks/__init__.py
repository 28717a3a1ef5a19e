"""What is answered before a run starts."""
