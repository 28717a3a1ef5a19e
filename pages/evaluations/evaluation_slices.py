"""Where a model is better or worse than on its other rows: by label and by length, of one evaluation, or of
two in pairs. What differs is told after a correction for the number of slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st

from engine.diagnostics import phrasing
from engine.diagnostics.comparison import slices
from pages.evaluations.evaluation_figures import TASK, scale, title
from pages.shared import wording
from pages.shared.session import client, plain
from store.contract.errors import QueryError
from store.documents.evaluations.evaluation import Evaluation
from store.documents.figures.figure import Figure
from store.queries.evaluations import evaluations

LISTED = 10  # lines before the table scrolls


def sliceable(evaluation: Evaluation) -> dict[str, Figure]:
    """Metrics with a score for each row."""
    return {
        figure["metric"]: figure
        for figure in evaluation["figures"]
        if figure["estimator"] != "whole" and not figure["failed"] and not figure["metric"].startswith(TASK)
    }


def draw_slices(evaluation: Evaluation, other: Evaluation | None = None) -> None:
    """The choice of a metric, and a line for each slice, the surest first."""
    sliced, own = sliceable(evaluation), evaluation["evaluation_id"]
    if other is not None:
        sliced = {name: named_slice for name, named_slice in sliced.items() if name in sliceable(other)}
    if not sliced:
        st.caption("No metric has scores of rows.")
        return
    place = f"{own}-{other['evaluation_id'] if other else ''}"
    metric = st.selectbox(
        "Slices by",
        list(sliced),
        format_func=lambda name: title(name, evaluation["config"]),
        key=f"evaluation-slices-{place}",
        label_visibility="collapsed",
    )
    try:
        listed = of_evaluation(own, metric, other["evaluation_id"] if other else "")
    except QueryError:
        st.caption("The file with its rows is gone.")
        return
    if not listed:
        st.caption("These rows make no slices: they have one label or none, and are all of one length.")
        return
    times = scale(sliced[metric])
    large = [named_slice for named_slice in listed if named_slice["n"] >= slices.LEAST]
    if not large:
        st.caption(f"Every slice of these rows has fewer than {slices.LEAST} rows.")
        return
    lines = [_line(named_slice, sliced[metric], times, paired=other is not None) for named_slice in large]
    st.dataframe(
        lines,
        hide_index=True,
        height="content" if len(lines) <= LISTED else 35 * (LISTED + 1) + 3,
        column_config={"Slice": st.column_config.TextColumn(pinned=True, width="medium")},
        alt="Slices of the rows, with intervals",
    )
    st.caption(_about(listed, other))


@st.cache_data(ttl=600, max_entries=128, show_spinner=False)
def of_evaluation(evaluation_id: str, metric: str, other: str = "") -> Sequence[Mapping[str, Any]]:
    """Slices by label, length of prompt and of the row's own answer."""
    table = evaluations.sliced(client(), evaluation_id, metric, other)
    if not table.num_rows:
        return []

    def numbers(name: str) -> np.ndarray:
        return np.array([np.nan if x is None else x for x in table[name].to_pylist()], float)

    groups = {
        **slices.by_value("Label", table["label"].to_pylist()),
        **slices.by_size("Prompt", numbers("prompt"), "characters"),
        **slices.by_size("Own answer", numbers("answer"), "characters"),
    }
    if other:
        return slices.of_differences(numbers("score"), numbers("other"), groups)
    return slices.of_scores(numbers("score"), groups)


def _line(
    named_slice: Mapping[str, Any], figure: Figure, times: float, *, paired: bool
) -> dict[str, str | int]:
    where = {"Slice": f"{named_slice['by']}: {named_slice['value']}"}
    test = {
        "Told apart": _word(named_slice, figure["better"], paired),
        "n": named_slice["n"],
        "q": _q(named_slice["q"]),
    }
    if paired:
        return where | {"Difference": wording.estimate(named_slice["gap"], scale=times)} | test
    mean = wording.estimate(named_slice["mean"], scale=times, sign=False)
    rest = (
        "–"
        if named_slice["rest"] is None
        else phrasing.number(times * named_slice["rest"], 1 if times == 100 else 2)
    )
    return where | {f"Mean{', %' if times == 100 else ''}": mean, "Other rows": rest} | test


def _word(named_slice: Mapping[str, Any], better: str, paired: bool) -> str:
    if named_slice["q"] is None:
        return f"can't be told: {named_slice['why']}"
    if not named_slice["different"]:
        return "can't be told"
    gap = named_slice["gap"]["value"] if paired else named_slice["gap"]
    return "better" if (gap > 0) == (better == "higher") else "worse"


def _q(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _about(listed: Sequence[Mapping[str, Any]], other: Evaluation | None) -> str:
    tested = sum(named_slice["q"] is not None for named_slice in listed)
    small = sum(named_slice["n"] < slices.LEAST for named_slice in listed)
    left_out = f" {phrasing.plural(small, 'smaller one')} left out." if small else ""
    against = f"this one minus {other['name']}, in pairs" if other else "each against all other rows"
    return plain(
        f"{phrasing.plural(tested, 'slice')}, {against}; q is the p-value after Benjamini and Hochberg"
        f" for {phrasing.plural(tested, 'test')}: of the slices that are told apart at most a twentieth are"
        " expected to be none."
        f" 95% intervals, each on its own; a slice has at least {slices.LEAST} rows, and means of fewer than"
        f" {slices.MIN_ROWS} are not tested.{left_out}"
    )
