"""Figures with their uncertainty, and numbers logged by step."""
