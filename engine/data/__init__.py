"""Data sets: reading, conversion, splitting, measurement, comparison, cleaning and export."""
