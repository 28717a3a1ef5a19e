"""Rows to token ids, with which of them are trained; chat templates and calls of functions."""
