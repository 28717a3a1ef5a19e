"""How well faults of rows are found: labels, duplicates, cut-off answers, personal data, languages."""
