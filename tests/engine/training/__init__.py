"""Runs from their order to their verdict, and what a step of them does."""
