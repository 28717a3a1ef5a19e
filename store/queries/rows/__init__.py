"""Single rows as a run left them, read from the Parquet files in its job folder."""
