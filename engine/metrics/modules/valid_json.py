"""Valid JSON as a local module of `evaluate`."""

from engine.metrics import module


class ValidJsonModule(module.AnswerMetric):
    family = "valid_json"
