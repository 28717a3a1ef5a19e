"""What is served and what comes back of it: drift, candidates, labels, improvements."""
