"""Exact match as a local module of `evaluate`."""

from engine.metrics import module


class ExactMatchModule(module.TextMetric):
    family = "exact_match"
