"""People, sessions, roles and activity: schemas and queries."""
