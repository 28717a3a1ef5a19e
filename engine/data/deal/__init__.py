"""How the rows of a data set are dealt to train, validation and test, and what leaks between them."""
