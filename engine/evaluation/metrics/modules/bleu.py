"""BLEU as a local module of `evaluate`."""

from engine.evaluation.metrics import module


class Bleu(module.TextMetric):
    family = "bleu"
