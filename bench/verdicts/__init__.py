"""Real runs whose verdicts are known, for the benches of evidence."""
