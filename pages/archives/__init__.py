"""Bundles of finished runs: asked for and handed over, and which figures of one came back."""
