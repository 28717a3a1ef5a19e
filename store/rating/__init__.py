"""Rating rounds: schemas, queries and sentences."""
