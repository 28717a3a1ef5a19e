"""Interval estimates and tests. Pure functions from tables and arrays to figures."""
