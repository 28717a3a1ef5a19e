"""Registered models: versions, aliases and their gates, exports, improvements."""
