"""What training on one data set does for another."""
