"""What a run may say, what can't work together, and what else is asked about runs: mixing, bundles, asks."""
