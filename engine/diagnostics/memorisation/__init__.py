"""Which rows a model knows by heart: membership, extraction, repeated rows."""
