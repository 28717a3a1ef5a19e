"""Texts that nobody vouches for, as elements in a browser: Markdown, code, tables, right-to-left."""
