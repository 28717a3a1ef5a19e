"""Screens of what leaves the house, and of what is served."""
