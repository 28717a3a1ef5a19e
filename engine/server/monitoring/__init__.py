"""What the engine does with the logs of endpoints: takes them in, has them measured, warns, and tells
webhooks."""
