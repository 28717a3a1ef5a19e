"""Pure functions, numbers in and verdicts out: no files, no models, no store."""
