"""Whose answer it was: of a registered model, by the version that the log of an endpoint names."""

from __future__ import annotations


def answered_as(version: str, model: str) -> str:
    """SQL: whether `version`, a column, is a version of the model whose name `model` stands for, or the run
    of one of its versions, served by its own name."""
    return f"""(starts_with({version}, {model} || '@') OR {version} IN (
        SELECT made_by.name FROM model_version registered JOIN registered_model USING (model_id)
            JOIN run made_by ON made_by.run_id = registered.run_id
        WHERE registered_model.name = {model}))"""


def asked_for(model: str, where: str = "true") -> str:
    """SQL: endpoint_id and model, the names that callers of an endpoint ask for and that a version of the
    registered model has ever answered. What another version answered to such a name, as a candidate or a
    fallback does, was asked of this one all the same; a copy for a shadow nobody saw."""
    return f"""
        SELECT DISTINCT answer.endpoint_id, answer.model FROM request answer
        WHERE answer.role <> 'shadow' AND {where} AND {answered_as("answer.version", model)}"""
