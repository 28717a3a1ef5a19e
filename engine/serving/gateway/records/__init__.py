"""What is kept of requests: counts, texts, and the lines of the log."""
