"""A matrix of transfer: every run on every data set, what is measured and what comes of it."""
