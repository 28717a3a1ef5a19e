"""A regular expression as a local module of `evaluate`."""

from engine.evaluation.metrics import evaluate_module


class RegexModule(evaluate_module.AnswerMetric):
    family = "regex"
