"""Rows of a data set: table, filter, histograms, SQL, its card."""
