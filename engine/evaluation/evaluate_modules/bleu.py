"""BLEU as a local module of `evaluate`."""

from engine.evaluation.metrics import evaluate_module


class BleuModule(evaluate_module.TextMetric):
    family = "bleu"
