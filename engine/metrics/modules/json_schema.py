"""JSON that a schema accepts as a local module of `evaluate`."""

from engine.metrics import module


class JsonSchemaModule(module.AnswerMetric):
    family = "json_schema"
