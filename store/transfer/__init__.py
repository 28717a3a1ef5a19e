"""Matrices of transfer: schemas and queries."""
