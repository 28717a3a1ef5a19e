"""BLEU as a local module of `evaluate`."""

from engine.metrics import module


class BleuModule(module.TextMetric):
    family = "bleu"
