"""What the course of a run shows: overfitting, its stages, the step to keep, and what to change."""
