"""Foreign files: recognised, read and converted."""
