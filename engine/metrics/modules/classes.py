"""Accuracy, precision, recall and F1 of answers that are labels as a local module of `evaluate`."""

from engine.metrics import module


class ClassesModule(module.TextMetric):
    family = "classes"
