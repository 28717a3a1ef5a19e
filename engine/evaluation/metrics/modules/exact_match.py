"""Exact match as a local module of `evaluate`."""

from engine.evaluation.metrics import module


class ExactMatch(module.TextMetric):
    family = "exact_match"
