"""Constraints that a program can check as a local module of `evaluate`."""

from engine.evaluation.metrics import evaluate_module


class ConstraintsModule(evaluate_module.AnswerMetric):
    family = "constraints"
