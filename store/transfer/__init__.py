"""Transfer matrices: schemas and queries."""
