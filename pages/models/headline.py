"""The figure by which a version is known: the first with an interval of an evaluation, with its n."""

from __future__ import annotations

from engine.diagnostics import phrasing
from store.documents.evaluations.evaluation import Evaluation


def headline(evaluation: Evaluation | None) -> str:
    """ "accuracy 0.92 (0.88 to 0.95, n 200) on trec"; empty where nothing was measured."""
    figures = evaluation["figures"] if evaluation else []
    usable = [entry for entry in figures if entry["value"] is not None]
    sure = [entry for entry in usable if entry["low"] is not None]
    figure = next(iter(sure or usable), None)
    if evaluation is None or figure is None or figure["value"] is None:
        return ""
    places = phrasing.decimals(figure["low"], figure["high"])
    bounds = phrasing.interval(figure["low"], figure["high"], places)
    name = figure["metric"].removeprefix("eval/").replace("_", " ")
    value = phrasing.number(figure["value"], places)
    return f"{name} {value} ({bounds}, n {figure['n']:,}) on {evaluation['dataset_name']}"
