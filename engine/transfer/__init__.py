"""The transfer matrix: every run evaluated on every data set, its measurements and results."""
