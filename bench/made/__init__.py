"""What benches are run on: rows, tables and statements, made from a seed."""
