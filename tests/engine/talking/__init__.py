"""The playground: answers a token at a time, the process that makes them, and what it gives way to."""
