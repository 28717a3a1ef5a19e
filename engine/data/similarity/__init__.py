"""Find equal rows and near duplicates by their words."""
