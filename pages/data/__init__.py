"""Data sets: import, exploration, cleaning, splits and versions."""
