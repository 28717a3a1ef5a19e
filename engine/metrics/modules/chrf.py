"""chrF as a local module of `evaluate`."""

from engine.metrics import module


class Chrf(module.TextMetric):
    family = "chrf"
