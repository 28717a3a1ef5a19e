"""Which rows are near duplicates of each other, by their words."""
