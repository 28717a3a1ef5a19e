"""Screens of what leaves the house."""
