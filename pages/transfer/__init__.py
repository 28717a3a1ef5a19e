"""Transfer: the effect of training on one data set on others."""
