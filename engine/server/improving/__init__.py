"""Improvements: from what came back of a model in use to a version that a person may promote."""
