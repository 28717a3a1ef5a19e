"""Tunebench's own backend: a torch model that generates its answers in a batch, one token at a time."""
