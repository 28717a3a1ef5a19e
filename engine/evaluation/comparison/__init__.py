"""Pure: runs and evaluations held against each other, row by row."""
