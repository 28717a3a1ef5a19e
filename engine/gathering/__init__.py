"""New rows to train on and to judge by, out of what people said of a model in use."""
