"""Improvements of a model in use: schemas and queries."""
