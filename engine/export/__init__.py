"""Exported models: their forms, the files of each, and whether an export answers as its model does."""
