"""Forward passes for packed rows and answer trees, faster than the models' own."""
