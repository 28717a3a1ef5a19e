"""A regular expression as a local module of `evaluate`."""

from engine.metrics import module


class RegexModule(module.AnswerMetric):
    family = "regex"
