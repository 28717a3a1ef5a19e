"""What a step makes smaller, one module a task, and terms beside it."""
