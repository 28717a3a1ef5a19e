"""Archives of finished runs: written, opened and run again elsewhere, sealed by checksums."""
