"""The processes behind an endpoint, on tiny models."""
