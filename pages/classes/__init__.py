"""Figures of classes, for runs and evaluations alike."""
