"""What an endpoint is told, what it can do, and what it writes down of each request."""
