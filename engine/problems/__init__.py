"""What a preview warns of or refuses, from facts alone."""
