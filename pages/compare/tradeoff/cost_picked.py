"""Beside the plot of gain against forgetting: the run that was clicked, and the runs of the front.

Methods, or learning rates, at equal gain: which of two sweeps forgets less where both gain the same.

The runs of the plot as a table: the same figures, each with its interval and n, to be sorted by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import streamlit as st

from engine.diagnostics import phrasing
from engine.diagnostics.comparison import pareto
from pages.compare.tradeoff.cost_chart import STATUSES, made
from pages.compare.tradeoff.cost_points import (
    MEASURES,
    Point,
    cost_of,
    method_title,
    pareto_run,
    rate_text,
)
from pages.run_parts import run_reads
from pages.run_parts.advice_actions import draw_advice
from pages.run_parts.chips import badge, dot
from pages.shared import wording
from pages.shared.session import plain
from store.documents.figures.estimate import Estimate
from store.documents.tables.run import RunCosts
from store.documents.verdicts.verdict import Gain

LISTED = 8  # runs of the front


def draw_picked(points: Sequence[Point], picked: str, measure: str) -> bool:
    """The run that was clicked: its figures, its page, and what to try against what it forgot. Whether it
    is among those that are drawn."""
    point = next((point for point in points if point.row["run_id"] == picked), None)
    if point is None:
        st.caption(":material/ads_click: Click a run to see what it cost and what to try next.")
        return False
    with st.container(border=True, key="cost-picked"):
        st.markdown(f"{dot(point.row['number'])} **{plain(point.label)}**")
        if point.row["state"]:
            st.markdown(badge(wording.FORGETTING[point.row["state"]]))
        st.markdown(plain(_description(point, measure)))
        if st.button("Open", type="primary", icon=":material/show_chart:", key="cost-open"):
            st.switch_page("pages/run/run.py", query_params={"run": picked})
        verdict = run_reads.run(picked)["verdict"]
        forgetting = verdict and verdict["forgetting"]
        for index, piece in enumerate(forgetting["advice"] if forgetting else ()):
            draw_advice(piece, picked, f"cost-advice-{index}")
    return True


def _description(point: Point, measure: str) -> str:
    gain, cost = wording.estimate(dict(point.gain)), wording.estimate(dict(point.cost))
    text = (
        f"{point.method}, {made(point.row)}. Gain {gain} nats a token on"
        f" {phrasing.plural(point.gain['n'], 'row')}; {MEASURES[measure].title.lower()} {cost}"
        f" {MEASURES[measure].unit}, {phrasing.plural(point.cost['n'], MEASURES[measure].items)}."
    )
    if point.status == "front":
        return f"{text} On the front."
    names = ", ".join(point.behind[:3]) + (
        f" and {len(point.behind) - 3} more" if len(point.behind) > 3 else ""
    )
    lead = "Not surely worse than" if point.status == "alike" else "Behind"
    return f"{text} {lead} {names}."


def draw_front(points: Sequence[Point], measure: str) -> None:
    """The runs of the front, the least forgetting first."""
    front = sorted((p for p in points if p.status == "front"), key=lambda p: p.cost["value"])
    st.markdown("**On the front**")
    for point in front[:LISTED]:
        gain, cost = wording.estimate(dict(point.gain)), wording.estimate(dict(point.cost))
        label = f"{dot(point.row['number'])} {plain(point.label)}"
        with st.container(gap=None):
            st.page_link("pages/run/run.py", label=label, query_params={"run": point.row["run_id"]})
            st.caption(f"gain {plain(gain)}, {MEASURES[measure].title.lower()} {plain(cost)}")
    if len(front) > LISTED:
        st.caption(f"and {len(front) - LISTED:,} more; the table has them all.")


LEAST = 2  # runs that make a sweep
ICONS = {
    "first": "check_circle",
    "second": "check_circle",
    "alike": "help",
    "mixed": "help",
    "no_overlap": "block",
}


def groups(rows: Sequence[RunCosts]) -> tuple[str, dict[str, list[RunCosts]]]:
    """What can be compared, "method" or "learning rate", and the runs of each; empty where nothing can be."""
    for kind, name in (("method", method_title), ("learning rate", rate_text)):
        by_name: dict[str, list[RunCosts]] = defaultdict(list)
        for row in rows:
            by_name[name(row)].append(row)
        swept = {key: runs for key, runs in by_name.items() if len(runs) >= LEAST}
        if len(swept) >= 2:
            return kind, swept
    return "", {}


def compared(
    rows: Sequence[RunCosts], measure: str, pair: pareto.PairedDifference = pareto.unpaired
) -> tuple[str, list[pareto.MatchedSweeps]]:
    """Each sweep against the one with the most runs: the kind, and the documents of `pareto.matched`; `pair`:
    differences of two runs where they were measured on the same items.

    Along a sweep of learning rates goes the rate, and along runs of one rate the number of epochs.
    """
    kind, grouped = groups(rows)
    order = sorted(grouped, key=lambda name: -len(grouped[name]))
    sweeps = {name: [_run(row, measure, name, kind) for row in grouped[name]] for name in order}
    others = order[1:]
    return kind, [
        pareto.matched(sweeps[order[0]], sweeps[name], comparisons=len(others), pair=pair) for name in others
    ]


def _run(row: RunCosts, measure: str, name: str, kind: str) -> pareto.RunPoint:
    group = name if kind == "method" else f"learning rate {name}"
    run = pareto_run(row, measure, group)
    if kind == "learning rate":
        run["setting"] = row["num_train_epochs"] or 0.0
    return run


def draw_matched(rows: Sequence[RunCosts], measure: str, pair: pareto.PairedDifference) -> None:
    """A sentence for each comparison, and the figures behind them."""
    kind, comparisons = compared(rows, measure, pair)
    st.subheader("At equal gain", anchor=False)
    if not comparisons:
        st.caption(
            f"Two methods, or two learning rates, with {LEAST} runs each are compared here where they gain"
            " the same. Launch the same data with another rate or method to fill it."
        )
        return
    for comparison in comparisons:
        st.markdown(f":material/{ICONS[comparison['state']]}: {plain(_capital(comparison['sentence']))}")
    table = [line for comparison in comparisons for line in _lines(comparison, measure)]
    if table:
        with st.expander("The figures behind it", key="cost-matched"):
            st.dataframe(table, hide_index=True, alt="Forgetting of both at the same gains")
    if len(comparisons) > 1:
        st.caption(
            f"Each against the {kind} with the most runs; intervals are widened for the gains looked at and"
            f" for {len(comparisons)} comparisons (Bonferroni)."
        )


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _lines(comparison: pareto.MatchedSweeps, measure: str) -> list[dict[str, str]]:
    unit = MEASURES[measure].unit
    return [
        {
            "Gain (nats a token)": phrasing.number(point["gain"], 3),
            "First": comparison["first"],
            f"forgets ({unit})": phrasing.number(point["first"], 3),
            "Second": comparison["second"],
            f"forgets ({unit}) ": phrasing.number(point["second"], 3),
            "First − second": wording.estimate(point["difference"]),
        }
        for point in comparison["points"]
    ]


KEY = "cost-table"
Cell = str | float | None


def draw_table(points: Sequence[Point], measure: str, on_pick: Callable[[str], None]) -> None:
    """A line a run, best gain first; a click on one picks it."""
    order = sorted(points, key=lambda point: -point.gain["value"])
    ids = [point.row["run_id"] for point in order]
    st.dataframe(
        [line(point, measure) for point in order],
        hide_index=True,
        column_config={
            "Run": st.column_config.TextColumn(width=150, pinned=True),
            "Learning rate": st.column_config.NumberColumn(format="%.2g"),
            "Gain ↑": st.column_config.NumberColumn(format="%.3f", help="Nats a token on held-out rows"),
            **{
                f"{what.title} ↓": st.column_config.NumberColumn(format="%.3f", help=what.axis)
                for what in MEASURES.values()
            },
        },
        on_select=lambda: _picked(ids, on_pick),
        selection_mode="single-row",
        key=KEY,
        alt="Gain and forgetting of each run",
    )


def _picked(ids: Sequence[str], on_pick: Callable[[str], None]) -> None:
    rows = st.session_state[KEY]["selection"]["rows"]
    on_pick(ids[rows[0]] if rows else "")


def line(point: Point, measure: str) -> dict[str, Cell]:
    """Of one run, with the figure that the plot shows first."""
    row = point.row
    cells: dict[str, Cell] = {
        "Run": point.label,
        "Gain ↑": point.gain["value"],  # at once, as a phone shows the first two or three columns
        "95% (gain)": _bounds(point.gain),
        "n (rows)": point.gain["n"],
    }
    cells |= _forgetting(row, measure)
    cells |= {
        "Place": STATUSES[point.status],
        "Method": point.method,
        "Learning rate": row["learning_rate"],
    }
    for other in MEASURES:
        if other != measure:
            cells |= _forgetting(row, other)
    return cells


def _forgetting(row: RunCosts, measure: str) -> dict[str, Cell]:
    what, cost = MEASURES[measure], cost_of(row, measure)
    return {
        f"{what.title} ↓": cost["value"] if cost else None,
        f"95% ({what.title.lower()})": _bounds(cost) if cost else "–",
        f"n ({what.items}s)": cost["n"] if cost else None,
    }


def _bounds(estimate: Estimate | Gain) -> str:
    return phrasing.interval(estimate["low"], estimate["high"])
