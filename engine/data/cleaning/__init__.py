"""A recipe of cleaning steps over the rows of a data set, and the account of what each step changed."""
