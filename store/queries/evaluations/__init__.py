"""Questions about evaluations, pairs of them, and judgings."""
