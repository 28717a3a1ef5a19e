"""Vectors of rows, and what a set looks like by them: topics, diversity, labels that don't fit."""
