"""What signals look at in a text by reading it: its language, its answer, its markup."""
