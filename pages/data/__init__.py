"""Data sets: import, exploring, cleaning, splits and versions."""
