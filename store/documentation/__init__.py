"""Generators of pages in docs from code: `python -m store.documentation.…`."""
