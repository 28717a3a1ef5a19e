"""Models: where they come from, how a method changes them, tokenization, forward passes, objectives,
saving."""
