"""Methods, or learning rates, at equal gain: which of two sweeps forgets less where both gain the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import streamlit as st

from engine.diagnostics import phrasing
from engine.diagnostics.comparison import pareto
from pages.compare.tradeoff.cost_points import MEASURES, Row, method_title, pareto_run, rate_text
from pages.shared import wording
from pages.shared.session import plain

LEAST = 2  # runs that make a sweep
ICONS = {
    "first": "check_circle",
    "second": "check_circle",
    "alike": "help",
    "mixed": "help",
    "no_overlap": "block",
}


def groups(rows: Sequence[Row]) -> tuple[str, dict[str, list[Row]]]:
    """What can be compared, "method" or "learning rate", and the runs of each; empty where nothing can be."""
    for kind, name in (("method", method_title), ("learning rate", rate_text)):
        found: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            found[name(row)].append(row)
        swept = {key: runs for key, runs in found.items() if len(runs) >= LEAST}
        if len(swept) >= 2:
            return kind, swept
    return "", {}


def compared(
    rows: Sequence[Row], measure: str, pair: pareto.Pair = pareto.unpaired
) -> tuple[str, list[dict[str, Any]]]:
    """Each sweep against the one with the most runs: the kind, and the documents of `pareto.matched`; `pair`:
    differences of two runs where they were measured on the same items.

    Along a sweep of learning rates goes the rate, and along runs of one rate the number of epochs.
    """
    kind, found = groups(rows)
    order = sorted(found, key=lambda name: -len(found[name]))
    sweeps = {name: [_run(row, measure, name, kind) for row in found[name]] for name in order}
    others = order[1:]
    return kind, [
        pareto.matched(sweeps[order[0]], sweeps[name], comparisons=len(others), pair=pair) for name in others
    ]


def _run(row: Row, measure: str, name: str, kind: str) -> pareto.Run:
    group = name if kind == "method" else f"learning rate {name}"
    found = pareto_run(row, measure, group)
    if kind == "learning rate":
        found["setting"] = row["num_train_epochs"] or 0.0
    return found


def draw_matched(rows: Sequence[Row], measure: str, pair: pareto.Pair) -> None:
    """A sentence for each comparison, and the figures behind them."""
    kind, found = compared(rows, measure, pair)
    st.subheader("At equal gain", anchor=False)
    if not found:
        st.caption(
            f"Two methods, or two learning rates, with {LEAST} runs each are compared here where they gain"
            " the same. Launch the same data with another rate or method to fill it."
        )
        return
    for one in found:
        st.markdown(f":material/{ICONS[one['state']]}: {plain(_capital(one['sentence']))}")
    table = [line for one in found for line in _lines(one, measure)]
    if table:
        with st.expander("The figures behind it", key="cost-matched"):
            st.dataframe(table, hide_index=True, alt="Forgetting of both at the same gains")
    if len(found) > 1:
        st.caption(
            f"Each against the {kind} with the most runs; intervals are widened for the gains looked at and"
            f" for {len(found)} comparisons (Bonferroni)."
        )


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _lines(one: dict[str, Any], measure: str) -> list[dict[str, Any]]:
    unit = MEASURES[measure].unit
    return [
        {
            "Gain (nats a token)": phrasing.number(point["gain"], 3),
            "First": one["first"],
            f"forgets ({unit})": phrasing.number(point["first"], 3),
            "Second": one["second"],
            f"forgets ({unit}) ": phrasing.number(point["second"], 3),
            "First − second": wording.estimate(point["difference"]),
        }
        for point in one["points"]
    ]
