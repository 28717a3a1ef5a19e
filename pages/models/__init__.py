"""The screen of registered models: versions, gates, lineage, cards."""
