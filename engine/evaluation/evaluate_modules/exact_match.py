"""Exact match as a local module of `evaluate`."""

from engine.evaluation.metrics import evaluate_module


class ExactMatchModule(evaluate_module.TextMetric):
    family = "exact_match"
