"""chrF as a local module of `evaluate`."""

from engine.evaluation.metrics import module


class Chrf(module.TextMetric):
    family = "chrf"
