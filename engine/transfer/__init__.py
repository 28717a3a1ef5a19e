"""A matrix of transfer: its rows, its models, what is measured and what comes of it."""
