"""One request on its way: its route, the tries to have it answered, and its copies to shadows."""
