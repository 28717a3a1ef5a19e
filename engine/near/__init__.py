"""Which rows are equal or nearly so, and what becomes of them as groups. What follows for a recipe or a
signal is decided there.
"""
