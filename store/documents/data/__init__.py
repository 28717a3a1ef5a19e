"""Rows of data sets, and what is asked and measured of them."""
