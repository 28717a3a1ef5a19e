"""The screens about what is served."""
"""Screens of what leaves the house."""
