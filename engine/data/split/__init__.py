"""Which rows train, validate and test: drawn by a hash, by groups or by a column, and what leaks between
them."""
