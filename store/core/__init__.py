"""Foundations of the store: folders, ids, errors, rights, registries, and shared document types."""
