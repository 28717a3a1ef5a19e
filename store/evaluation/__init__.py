"""Evaluations, predictions and verdicts: schemas, queries and sentences."""
