"""What people are given to rate, what they answer, and the rounds in which they do."""
