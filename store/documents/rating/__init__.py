"""What people are given to rate, and what they answer."""
