"""Rendering of untrusted texts as browser elements: Markdown, code, tables, right-to-left text."""
