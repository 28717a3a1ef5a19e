"""People, sessions, roles and what they did: schemas and queries."""
