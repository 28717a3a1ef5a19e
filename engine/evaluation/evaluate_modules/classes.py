"""Accuracy, precision, recall and F1 of answers that are labels as a local module of `evaluate`."""

from engine.evaluation.metrics import evaluate_module


class ClassesModule(evaluate_module.TextMetric):
    family = "classes"
