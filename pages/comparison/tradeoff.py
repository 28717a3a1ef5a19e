"""Gain against forgetting: choices, the sentence, the plot, the run that is picked with what it can be held
against, and the table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import plotly.graph_objects as go
import streamlit as st

from engine.evaluation.comparison import pareto
from pages.comparison import tradeoff_chart, tradeoff_points
from pages.comparison.tradeoff_chart import STATUSES, made
from pages.comparison.tradeoff_points import (
    MEASURES,
    Point,
    cost_of,
    method_title,
    pairs_of,
    pareto_run,
    rate_text,
)
from pages.shared import cached_queries, display, run_queries
from pages.shared.charts import PLOT
from pages.shared.run_chips import badge, dot, draw_advice
from pages.shared.session import client, kept_for, may, plain
from store.core import formatting
from store.core.figure_schemas import Estimate
from store.evaluation.verdict_schemas import Gain
from store.runs import run_outcomes
from store.runs.schemas import MeasuredShare, RunCosts

# Beside the plot of gain against forgetting: the run that was clicked, and the runs of the front.
#
# Methods, or learning rates, at equal gain: which of two sweeps forgets less where both gain the same.
#
# The runs of the plot as a table: the same figures, each with its interval and n, to be sorted by.

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
            st.markdown(badge(display.FORGETTING[point.row["state"]]))
        st.markdown(plain(_description(point, measure)))
        if st.button("Open", type="primary", icon=":material/show_chart:", key="cost-open"):
            st.switch_page("pages/runs/run.py", query_params={"run": picked})
        verdict = run_queries.run(picked)["verdict"]
        forgetting = verdict and verdict["forgetting"]
        for index, piece in enumerate(forgetting["advice"] if forgetting else ()):
            draw_advice(piece, picked, f"cost-advice-{index}")
    return True


def _description(point: Point, measure: str) -> str:
    gain, cost = display.estimate(dict(point.gain)), display.estimate(dict(point.cost))
    text = (
        f"{point.method}, {made(point.row)}. Gain {gain} nats a token on"
        f" {formatting.plural(point.gain['n'], 'row')}; {MEASURES[measure].title.lower()} {cost}"
        f" {MEASURES[measure].unit}, {formatting.plural(point.cost['n'], MEASURES[measure].items)}."
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
        gain, cost = display.estimate(dict(point.gain)), display.estimate(dict(point.cost))
        label = f"{dot(point.row['number'])} {plain(point.label)}"
        with st.container(gap=None):
            st.page_link("pages/runs/run.py", label=label, query_params={"run": point.row["run_id"]})
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
            "Gain (nats a token)": formatting.number(point["gain"], 3),
            "First": comparison["first"],
            f"forgets ({unit})": formatting.number(point["first"], 3),
            "Second": comparison["second"],
            f"forgets ({unit}) ": formatting.number(point["second"], 3),
            "First − second": display.estimate(point["difference"]),
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
    return formatting.interval(estimate["low"], estimate["high"])


CHART, LINK = "cost-chart", "run"
FEW = 12  # runs that keep their own colours unless told otherwise
ABOUT = """
Every run that is launched now measures, before and after, plain prose and general questions that have nothing
to do with its data; what it lost of them stands here against what it gained. Runs from before have no such
figures: clone and launch them again.
"""


@kept_for(cached_queries.CALM, most=4)
def _costs() -> list[RunCosts]:
    return run_outcomes.costs(client())


@kept_for(cached_queries.CALM, most=4)
def _shares() -> list[MeasuredShare]:
    return run_outcomes.measured_shares(client())


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
    drawable, reasons = tradeoff_points.sort_out(rows, measure)
    with bar:
        drawable, others = _of_model(drawable)
        usual = "run" if len(drawable) <= FEW else "rate"
        color = _choice("Colour", tradeoff_chart.COLORS, "colour", usual)
        families = _families(drawable)
    if others:
        reasons["of another base model, whose tokens are others"] = others
    note = tradeoff_points.left_out(len(drawable), len(rows), reasons)
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
    options = [kind for kind in tradeoff_chart.KINDS if there[kind]]
    if not options:
        return []
    return st.pills(
        "Lines", options, selection_mode="multi", default=options, key="lines",
        format_func=tradeoff_chart.KINDS.__getitem__, bind="query-params",
    )  # fmt: skip


def _draw_plot(rows: list[RunCosts], measure: str, color: str, note: str, families: Sequence[str]) -> None:
    pairs = pairs_of(tuple(row["run_id"] for row in rows), measure, rows)
    points = tradeoff_points.points(rows, measure, pairs)
    drawn = {"mixes": 0}

    def add(figure: go.Figure) -> None:
        if "mixes" in families:
            drawn["mixes"] = tradeoff_chart.add_mixes(figure, points, _shares(), measure)
        if "parents" in families:
            tradeoff_chart.add_links(figure, points)

    one_set = len({row["dataset_id"] for row in rows}) == 1
    _draw_lead(points, measure, one_set)
    picked = st.query_params.get(LINK, "")
    wide, narrow = st.columns([3, 1.25], gap="medium")
    with wide:
        st.plotly_chart(
            tradeoff_chart.cost_chart(points, measure, color, picked, add),
            key=CHART,
            on_select=_clicked,
            selection_mode="points",
            config=PLOT,
            alt=f"Gain against forgetting of {formatting.plural(len(points), 'run')}",
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
    measured = [row for row in every if not tradeoff_points.reason(row, "prose")]
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
    total = formatting.plural(len(points), "run")
    sentence = f"{front:,} of {total} {verb} on {whose}: none gains more and forgets less."
    limits, best = tradeoff_points.limits(measure), tradeoff_points.cheapest(points)
    if limits is None or not one_set:
        st.subheader(f"{formatting.plural(front, 'run')} of {len(points):,} on {whose}", anchor=False)
        return
    unit, amber = MEASURES[measure].unit, f"{limits['amber']:g}"
    if best:
        name = f"{dot(best.row['number'])} {plain(best.label)}"
        st.subheader(f":green[:material/verified:] Most gained at no cost that matters: {name}", anchor=False)
        gain, cost = (plain(display.estimate(dict(part))) for part in (best.gain, best.cost))
        st.markdown(
            f"Gain **{gain}** nats a token, forgetting **{cost}** {unit}, surely under {amber}. {sentence}"
        )
        return
    st.subheader(":orange[:material/warning:] Whatever gained, it cost or may have cost", anchor=False)
    st.markdown(f"No run surely gained and surely forgot less than {amber} {unit}. {sentence}")


def _legend(points: Sequence[Point], mixes: int) -> str:
    parts = ["Bars are 95% intervals."]
    if len(points) > tradeoff_chart.BARS:
        parts = ["Bars are 95% intervals, drawn for runs on the front."]
    if any(p.row["kl"] for p in points):
        parts.append("The larger a point, the farther the run moved from its base model (KL).")
    if mixes:
        parts.append(
            f"{formatting.plural(mixes, 'diamond')} on the way to the base model: mixed with it, not trained,"
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
            st.switch_page("pages/training/launch.py")
