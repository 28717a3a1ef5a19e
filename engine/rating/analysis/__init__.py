"""Model strengths, rater agreement and reliability, and planning of rounds. Pure functions."""
