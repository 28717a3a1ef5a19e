"""Valid JSON as a local module of `evaluate`."""

from engine.evaluation.metrics import module


class ValidJson(module.AnswerMetric):
    family = "valid_json"
