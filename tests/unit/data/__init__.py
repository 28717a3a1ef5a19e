"""Rows of a data set: dealt, measured, cleaned."""
