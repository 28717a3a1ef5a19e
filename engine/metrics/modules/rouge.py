"""ROUGE-1, ROUGE-2 and ROUGE-L as a local module of `evaluate`."""

from engine.metrics import module


class RougeModule(module.TextMetric):
    family = "rouge"
