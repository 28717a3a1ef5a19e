"""The DuckDB file: its one connection and schema, the statements that people write and what keeps them in
bounds, and rows as they travel. What is asked of its tables is in the rooms.
"""
