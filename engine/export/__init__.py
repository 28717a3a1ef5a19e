"""Rows of a data set as files for other programs, with a card beside them."""
