"""The screen of endpoints."""
