"""Split rows into training, validation and test parts, and check for leaks."""
