"""ROUGE-1, ROUGE-2 and ROUGE-L as a local module of `evaluate`."""

from engine.evaluation.metrics import evaluate_module


class RougeModule(evaluate_module.TextMetric):
    family = "rouge"
