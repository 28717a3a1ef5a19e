"""What a page says of a round, in sentences."""
