"""Registered models in the engine: versions, aliases, gates, cards."""
