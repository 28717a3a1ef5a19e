"""Commands of registered models: register, promote, back, gates, delete."""
