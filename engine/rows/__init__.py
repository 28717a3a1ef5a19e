"""Rows of a data set as they lie on the disk, and as a model sees them: rendered, masked, as tokens."""
