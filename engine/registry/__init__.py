"""Registered models: versions, aliases that move through a gate, and gate reports."""
