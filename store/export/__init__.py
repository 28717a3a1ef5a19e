"""Exported models: schemas and queries."""
