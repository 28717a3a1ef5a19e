"""The screen that lays runs over each other."""
