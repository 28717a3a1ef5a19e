"""The map of a data set, and what is drawn from the vectors of its rows."""
