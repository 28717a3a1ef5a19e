"""BLEU as a local module of `evaluate`."""

from engine.metrics import module


class Bleu(module.TextMetric):
    family = "bleu"
