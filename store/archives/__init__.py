"""Archives of runs: schemas and queries."""
