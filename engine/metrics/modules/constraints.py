"""Constraints that a program can check as a local module of `evaluate`."""

from engine.metrics import module


class ConstraintsModule(module.AnswerMetric):
    family = "constraints"
