"""F1 of words as a local module of `evaluate`."""

from engine.metrics import module


class TokenF1Module(module.TextMetric):
    family = "token_f1"
