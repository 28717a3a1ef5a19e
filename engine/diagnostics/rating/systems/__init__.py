"""What ratings tell of the models: strengths, shares, criteria, and whether that is enough."""
