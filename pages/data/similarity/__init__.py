"""The tab that maps a data set by meaning: the map, its groups, and how diverse the rows are."""
