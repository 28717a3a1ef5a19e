"""From the rows of a file to the stored form: which format they are in, which column plays which role."""
