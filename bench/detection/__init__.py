"""Detection quality for faults of rows: labels, duplicates, cut-off responses, personal data, languages."""
