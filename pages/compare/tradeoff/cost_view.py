"""Gain against forgetting: choices, the sentence, the plot, the run that is picked, the table.

All choices and the picked run are in the link.
"""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from engine.diagnostics import phrasing
from pages.compare.tradeoff import cost_chart, cost_families, cost_points
from pages.compare.tradeoff.cost_pairs import pairs_of
from pages.compare.tradeoff.cost_picked import draw_front, draw_matched, draw_picked, draw_table
from pages.compare.tradeoff.cost_points import MEASURES, Point
from pages.run_parts.chips import dot
from pages.shared import reads, wording
from pages.shared.session import client, kept_for, may, plain
from pages.shared.traces import PLOT
from store.documents.tables.run import MeasuredShare, RunCosts
from store.queries.runs import gains_and_costs, interpolations

CHART, LINK = "cost-chart", "run"
FEW = 12  # runs that keep their own colours unless told otherwise
ABOUT = """
Every run that is launched now measures, before and after, plain prose and general questions that have nothing
to do with its data; what it lost of them stands here against what it gained. Runs from before have no such
figures: clone and launch them again.
"""


@kept_for(reads.CALM, most=4)
def _costs() -> list[RunCosts]:
    return gains_and_costs.costs(client())


@kept_for(reads.CALM, most=4)
def _shares() -> list[MeasuredShare]:
    return interpolations.points(client())


def draw_costs() -> None:
    """All of the tab below its title."""
    every = _costs()
    if not every:
        _draw_nothing("No run has finished yet.")
        return
    bar = st.container(horizontal=True, vertical_alignment="bottom", gap="small")
    with bar:
        rows = _of_dataset(every)
        measure = _choice(
            "Forgetting", {key: what.title for key, what in MEASURES.items()}, "forgetting", "prose"
        )
    drawable, reasons = cost_points.sort_out(rows, measure)
    with bar:
        drawable, others = _of_model(drawable)
        usual = "run" if len(drawable) <= FEW else "rate"
        color = _choice("Colour", cost_chart.COLORS, "colour", usual)
        families = _families(drawable)
    if others:
        reasons["of another base model, whose tokens are others"] = others
    note = cost_points.left_out(len(drawable), len(rows), reasons)
    if not drawable:
        _draw_nothing(note)
        return
    if len({row["dataset_id"] for row in drawable}) > 1:
        note += " A gain on one data set is not one on another: a run is held against those of its own."
    _draw_plot(drawable, measure, color, note, families)


def _families(rows: Sequence[RunCosts]) -> list[str]:
    """What is drawn of the families of runs, where there is any."""
    ids, shares = {row["run_id"] for row in rows}, _shares()
    there = {
        "parents": any(row["parent"] in ids for row in rows),
        "mixes": any(row["run_id"] in ids and 0 < row["alpha"] < 1 for row in shares),
    }
    options = [kind for kind in cost_families.KINDS if there[kind]]
    if not options:
        return []
    return st.pills(
        "Lines", options, selection_mode="multi", default=options, key="lines",
        format_func=cost_families.KINDS.__getitem__, bind="query-params",
    )  # fmt: skip


def _draw_plot(rows: list[RunCosts], measure: str, color: str, note: str, families: Sequence[str]) -> None:
    pairs = pairs_of(tuple(row["run_id"] for row in rows), measure, rows)
    points = cost_points.points(rows, measure, pairs)
    drawn = {"mixes": 0}

    def add(figure: go.Figure) -> None:
        if "mixes" in families:
            drawn["mixes"] = cost_families.add_mixes(figure, points, _shares(), measure)
        if "parents" in families:
            cost_families.add_links(figure, points)

    one_set = len({row["dataset_id"] for row in rows}) == 1
    _draw_lead(points, measure, one_set)
    picked = st.query_params.get(LINK, "")
    wide, narrow = st.columns([3, 1.25], gap="medium")
    with wide:
        st.plotly_chart(
            cost_chart.cost_chart(points, measure, color, picked, add),
            key=CHART,
            on_select=_clicked,
            selection_mode="points",
            config=PLOT,
            alt=f"Gain against forgetting of {phrasing.plural(len(points), 'run')}",
        )
        st.caption(plain(f"{_legend(points, drawn['mixes'])} {note}"))
    with narrow:
        if not draw_picked(points, picked, measure) and one_set:
            draw_front(points, measure)
    draw_table(points, measure, _pick)
    if one_set:
        draw_matched(rows, measure, pairs)


def _of_dataset(every: Sequence[RunCosts]) -> list[RunCosts]:
    """The runs of the chosen data set: at first the linked run's, else that of the newest with figures."""
    names = {row["dataset_id"]: row["dataset_name"] for row in every}
    measured = [row for row in every if not cost_points.reason(row, "prose")]
    newest = (measured or list(every))[-1]["dataset_id"]
    linked = {row["run_id"]: row["dataset_id"] for row in every}.get(st.query_params.get(LINK, ""), newest)
    options = ["", *sorted(names, key=lambda dataset_id: (dataset_id != newest, names[dataset_id]))]
    chosen = st.selectbox(
        "Data set",
        options,
        index=options.index(linked),
        key="dataset",
        format_func=lambda dataset_id: names.get(
            dataset_id, "All data sets"
        ),  # the link holds it: no counts in it
        width=280,
        bind="query-params",
    )
    return [row for row in every if not chosen or row["dataset_id"] == chosen]


def _of_model(rows: list[RunCosts]) -> tuple[list[RunCosts], int]:
    """The runs of one base model, and how many are of others; a choice only where there are several."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["model"]] = counts.get(row["model"], 0) + 1
    if len(counts) < 2:
        return rows, 0
    order = sorted(counts, key=lambda model: -counts[model])
    chosen = st.selectbox(
        "Base model", order, key="model", width=240, bind="query-params",
        format_func=lambda model: model.rstrip("/").rsplit("/", 1)[-1],
    )  # fmt: skip
    kept = [row for row in rows if row["model"] == chosen]
    return kept, len(rows) - len(kept)


def _choice(label: str, options: dict[str, str], key: str, usual: str) -> str:
    chosen = st.segmented_control(
        label, list(options), default=usual, key=key, format_func=options.__getitem__, bind="query-params"
    )
    return chosen or usual


def _draw_lead(points: list[Point], measure: str, one_set: bool) -> None:
    """What a reader in a hurry takes with them."""
    front = sum(p.status == "front" for p in points)
    verb, whose = "is" if front == 1 else "are", "the front" if one_set else "the front of their data set"
    total = phrasing.plural(len(points), "run")
    sentence = f"{front:,} of {total} {verb} on {whose}: none gains more and forgets less."
    limits, best = cost_points.limits(measure), cost_points.cheapest(points)
    if limits is None or not one_set:
        st.subheader(f"{phrasing.plural(front, 'run')} of {len(points):,} on {whose}", anchor=False)
        return
    unit, amber = MEASURES[measure].unit, f"{limits['amber']:g}"
    if best:
        name = f"{dot(best.row['number'])} {plain(best.label)}"
        st.subheader(f":green[:material/verified:] Most gained at no cost that matters: {name}", anchor=False)
        gain, cost = (plain(wording.estimate(dict(part))) for part in (best.gain, best.cost))
        st.markdown(
            f"Gain **{gain}** nats a token, forgetting **{cost}** {unit}, surely under {amber}. {sentence}"
        )
        return
    st.subheader(":orange[:material/warning:] Whatever gained, it cost or may have cost", anchor=False)
    st.markdown(f"No run surely gained and surely forgot less than {amber} {unit}. {sentence}")


def _legend(points: Sequence[Point], mixes: int) -> str:
    parts = ["Bars are 95% intervals."]
    if len(points) > cost_chart.BARS:
        parts = ["Bars are 95% intervals, drawn for runs on the front."]
    if any(p.row["kl"] for p in points):
        parts.append("The larger a point, the farther the run moved from its base model (KL).")
    if mixes:
        parts.append(
            f"{phrasing.plural(mixes, 'diamond')} on the way to the base model: mixed with it, not trained,"
            " and not held against the front until kept as a run."
        )
    parts.append(
        "Runs are told apart from the front in pairs, on the rows and items that both were measured on."
    )
    return " ".join(parts)


def _clicked() -> None:
    points = st.session_state[CHART]["selection"]["points"]
    _pick(next((str(p["customdata"][0]) for p in points if p.get("customdata")), ""))


def _pick(run_id: str) -> None:
    if run_id:
        st.query_params[LINK] = run_id
    else:
        st.query_params.pop(LINK, None)


def _draw_nothing(sentence: str) -> None:
    with st.container(border=True, horizontal_alignment="left"):
        st.subheader("No run to draw yet", anchor=False)
        st.markdown(f"{plain(sentence)} {ABOUT}")
        if may("work") and st.button(
            "Launch a run", type="primary", icon=":material/rocket_launch:", key="cost-launch"
        ):
            st.switch_page("pages/launch/launch.py")
