"""A run from its order to its verdict: one class a task, and what they share."""
