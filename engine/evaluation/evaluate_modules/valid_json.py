"""Valid JSON as a local module of `evaluate`."""

from engine.evaluation.metrics import evaluate_module


class ValidJsonModule(evaluate_module.AnswerMetric):
    family = "valid_json"
