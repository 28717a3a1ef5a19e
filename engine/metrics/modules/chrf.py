"""chrF as a local module of `evaluate`."""

from engine.metrics import module


class ChrfModule(module.TextMetric):
    family = "chrf"
