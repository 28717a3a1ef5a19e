"""Endpoints and their keys: schemas and queries."""
