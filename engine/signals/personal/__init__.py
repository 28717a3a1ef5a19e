"""Personal data, secrets and profanity in texts."""
