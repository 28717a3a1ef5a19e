"""Rating rounds: what raters are given next, which answers name their model, and rounds from elsewhere."""
