"""Data sets: files read and converted, rows split, measured, compared and cleaned, and written for others."""
