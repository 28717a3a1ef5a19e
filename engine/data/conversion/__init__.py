"""From columns of a source to rows of a data set: which format it has, and what each column becomes."""
