"""Preview of a config before anything is queued: preflight checks, advice, rows as the model sees them."""
