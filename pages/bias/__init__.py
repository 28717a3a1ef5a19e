"""Bias checks of a run, which show what fine-tuning made worse, and groups of an evaluation's rows."""
