"""The Map tab: rows arranged by meaning, their clusters, and diversity."""
