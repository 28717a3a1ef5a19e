"""What of a run any screen may show: its chip, key numbers, reads, and its settings as a form."""
