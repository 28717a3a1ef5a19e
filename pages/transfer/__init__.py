"""Transfer: what training on one data set does to others."""
