"""Bias checks: schemas and queries."""
