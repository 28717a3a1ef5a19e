"""Apply a recipe of cleaning steps to the rows of a data set, and record what each step changed."""
