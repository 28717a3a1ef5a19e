"""Pure: what measurements of a run mean: better, forgotten, memorised, inconclusive."""
