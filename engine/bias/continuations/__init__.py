"""What base and tuned model go on to write, and what a classifier of the user's makes of it: openings, the
classifier, how often it errs, and the probe."""
