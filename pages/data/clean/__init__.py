"""Cleaning: findings, the recipe, its preview, the new version."""
