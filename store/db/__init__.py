"""The DuckDB file: its connection and schema, restrictions on SQL written by people, and serialization of
rows. Queries of its tables are in the rooms.
"""
