"""Archives of finished runs, sealed by checksums: written, opened, and reproduced elsewhere."""
