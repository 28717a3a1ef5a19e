"""Bundles of finished runs: creating and downloading them, and which figures of one were reproduced."""
