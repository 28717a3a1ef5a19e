"""Models: sources, tuning methods, tokenization, forward passes, objectives and saving."""
