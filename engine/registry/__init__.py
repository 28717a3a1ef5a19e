"""Registered models: versions, aliases that move through a gate, and what a gate decides."""
