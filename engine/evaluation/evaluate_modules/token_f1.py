"""F1 of words as a local module of `evaluate`."""

from engine.evaluation.metrics import evaluate_module


class TokenF1Module(evaluate_module.TextMetric):
    family = "token_f1"
