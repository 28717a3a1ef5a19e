"""The table of runs: a component of its own, its routes and its page."""
