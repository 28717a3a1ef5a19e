"""Data sets: `import` and `data …`, and what is printed of their quality."""
