"""Forward passes that read packed rows and trees of answers faster than a model's own."""
