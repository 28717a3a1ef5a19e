"""JSON that a schema accepts as a local module of `evaluate`."""

from engine.evaluation.metrics import evaluate_module


class JsonSchemaModule(evaluate_module.AnswerMetric):
    family = "json_schema"
