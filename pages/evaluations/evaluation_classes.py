"""The classes of one evaluation: precision, recall and F1 of each, their averages, what is taken for what,
and how far its probabilities can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import streamlit as st

from engine.diagnostics import phrasing
from engine.diagnostics.comparison import score_table
from engine.diagnostics.statistics.class_figures import most_confused
from engine.diagnostics.statistics.scored import aggregate
from pages.classes.class_view import DrawnCalibration, draw_calibration, draw_confusion, draw_table
from pages.shared import wording
from pages.shared.session import client
from store.contract.errors import QueryError
from store.documents.evaluations.evaluation import Evaluation
from store.documents.figures.estimate import Estimate
from store.documents.figures.figure import Figure
from store.documents.verdicts.classification import ClassFigures
from store.queries.evaluations import evaluations

AVERAGES = {
    "macro": "Every class the same",
    "weighted": "By rows of each class",
    "micro": "All rows together",
}
PARTS = ("precision", "recall", "f1")


def draw_classes(evaluation: Evaluation) -> None:
    """Nothing where the evaluation has no accuracy over labels."""
    own = evaluation["evaluation_id"]
    figures = {figure["metric"]: figure for figure in evaluation["figures"]}
    accuracy = next((f for f in evaluation["figures"] if f["estimator"] == "accuracy"), None)
    if accuracy is None or accuracy["value"] is None or not accuracy["details"].get("classes"):
        return
    counts = {"n": accuracy["n"], "class_count": len(accuracy["labels"])}
    tuned = cast("ClassFigures", accuracy["details"] | counts)  # details of a metric over labels
    confused = most_confused(tuned["confusion"])
    st.markdown("**Averages over the classes**")
    try:
        st.dataframe(averages(own, accuracy["metric"]), hide_index=True, alt="Averages over the classes")
        rows = phrasing.plural(accuracy["n"], "row")
        st.caption(f"{rows}; 95% intervals by 2,000 resamples of the rows, of shares of rows Wilson's.")
    except QueryError:
        st.caption("The file with its scores is gone.")
    draw_table(tuned)
    calibration = calibration_of(figures)
    left, right = st.columns([3, 2], gap="large")
    with left:
        draw_confusion(tuned, confused, key=f"evaluation-confusion-{own}")
    with right:
        if calibration:
            draw_calibration(calibration, key=f"evaluation-reliability-{own}")
        else:
            st.caption(
                "Answers in words have no probabilities. For calibration evaluate a run of the task Text"
                " classification, with the metric Calibration error."
            )


@st.cache_data(ttl=600, max_entries=64, show_spinner="Working out intervals …")
def averages(evaluation_id: str, metric: str) -> list[dict[str, str | int]]:
    """A line for each way to average, with precision, recall and F1 and their intervals."""
    evaluation = evaluations.get(client(), evaluation_id)
    document = next(figure for figure in evaluation["figures"] if figure["metric"] == metric)
    scored = score_table.from_table(evaluations.scores(client(), evaluation_id), document)
    by_row = evaluations.groups(client(), evaluation_id)
    groups = None if by_row is None else [by_row.get(row) for row in scored.row_ids.tolist()]
    lines = []
    for way, title in AVERAGES.items():
        line: dict[str, str | int] = {"Average": way.capitalize(), "Counts": title}
        for part in PARTS:
            estimate = aggregate(replace(scored, estimator=f"{part}_{way}"), groups)
            line[f"{'F1' if part == 'f1' else part.capitalize()} ↑"] = wording.estimate(estimate, sign=False)
        lines.append(line | {"n": document["n"]})
    return lines


def calibration_of(figures: Mapping[str, Figure]) -> DrawnCalibration | None:
    """As a run's classes have it, from the figures that are there; None without the calibration error."""
    ece, heat = figures.get("eval/ece"), figures.get("eval/temperature")
    if not ece or ece["value"] is None or not ece["details"].get("bins"):
        return None
    return DrawnCalibration(
        {"value": ece["value"], "null": ece["details"]["chance"], "n": ece["n"]},
        ece["details"]["bins"],
        _estimate(figures.get("eval/brier")),
        _estimate(heat),
        overconfident=bool(heat and heat["details"].get("overconfident")),
    )


def _estimate(figure: Figure | None) -> Estimate | None:
    """The figure where it has a value."""
    if not figure or figure["value"] is None:
        return None
    return {"value": figure["value"], "low": figure["low"], "high": figure["high"], "n": figure["n"]}
