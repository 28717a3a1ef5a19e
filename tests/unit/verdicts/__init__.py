"""What is concluded of a run."""
