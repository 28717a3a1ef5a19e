"""Questions about endpoints and who may ask them."""
