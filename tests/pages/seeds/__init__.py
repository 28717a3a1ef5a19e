"""Stores with runs, data sets and evaluations in them, for the tests of screens."""
