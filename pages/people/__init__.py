"""What screens show of people: who did what, what they say, and what two change at once."""
