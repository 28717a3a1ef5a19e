"""The screen of evaluations."""
