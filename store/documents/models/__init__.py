"""What lies beside a model's files: its base, where it comes from, what training did."""
