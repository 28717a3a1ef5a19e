"""Conversations of the playground: schemas and queries."""
