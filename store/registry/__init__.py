"""Registered models, versions, aliases and gates: schemas, queries and sentences."""
