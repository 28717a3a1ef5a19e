"""Runs: schemas, queries and sentences."""
