"""Data sets, recipes and signals: schemas, queries and the Parquet files."""
