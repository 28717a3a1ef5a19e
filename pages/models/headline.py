"""The figure by which a version is known: the first of its newest evaluation, with interval and n."""

from __future__ import annotations

from engine.diagnostics import phrasing
from store.documents.evaluations.evaluation import Evaluation


def headline(evaluation: Evaluation | None) -> str:
    """ "accuracy 0.92 (0.88 to 0.95, n 200) on trec"; empty where nothing was measured."""
    figures = evaluation["figures"] if evaluation else []
    figure = next((entry for entry in figures if entry["value"] is not None), None)
    if evaluation is None or figure is None or figure["value"] is None:
        return ""
    places = phrasing.decimals(figure["low"], figure["high"])
    bounds = phrasing.interval(figure["low"], figure["high"], places)
    name = figure["metric"].removeprefix("eval/").replace("_", " ")
    value = phrasing.number(figure["value"], places)
    return f"{name} {value} ({bounds}, n {figure['n']:,}) on {evaluation['dataset_name']}"
