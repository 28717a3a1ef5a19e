"""Rows: which are meant (filters), where they come from (imports), and what is made of them (recipes)."""
