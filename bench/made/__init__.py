"""Input of benches: rows, tables and statements, generated from a seed."""
