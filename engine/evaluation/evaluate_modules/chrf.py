"""chrF as a local module of `evaluate`."""

from engine.evaluation.metrics import evaluate_module


class ChrfModule(evaluate_module.TextMetric):
    family = "chrf"
