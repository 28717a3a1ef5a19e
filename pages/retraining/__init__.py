"""Improvements of a model in use: their form, their steps and the decision."""
