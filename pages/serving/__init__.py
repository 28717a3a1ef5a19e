"""Endpoints: the list, one endpoint, and its keys."""
