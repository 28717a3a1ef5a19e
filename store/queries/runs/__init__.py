"""Questions about runs and what was made from them."""
