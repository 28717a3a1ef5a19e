"""Data sets: imports, measuring, cleaning, exports."""
