"""What callers send: their keys, bodies and ids, and refusals of what can't be answered."""
