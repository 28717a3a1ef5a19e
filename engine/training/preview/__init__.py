"""What a config would do before anything is queued: preflight checks, advice, rows as the model sees them."""
