"""What fine-tuning made worse: bias checks of a run, and groups of an evaluation's rows. Views for other
pages."""
