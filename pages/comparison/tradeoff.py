"""The trade-off of gain and forgetting: options, summary sentence, plot, details of the selected run, and
table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import plotly.graph_objects as go
import streamlit as st

from engine.evaluation.comparison import pareto
from pages.comparison import tradeoff_chart, tradeoff_points
from pages.comparison.tradeoff_chart import STATUSES, describe_method
from pages.comparison.tradeoff_points import (
    MEASURES,
    Point,
    build_pareto_run,
    build_run_pairs,
    format_method,
    format_rate,
    get_cost,
)
from pages.shared import cached_queries, display, run_queries
from pages.shared.charts import PLOT
from pages.shared.run_chips import draw_advice, format_badge, format_run_dot
from pages.shared.session import cached, escape_markdown, get_client, has_right
from store.core import formatting
from store.core.figure_schemas import Estimate, Gain
from store.runs import run_outcomes
from store.runs.schemas import MeasuredMix, RunCosts

LISTED_RUNS = 8  # listed runs of the front


def draw_picked(points: Sequence[Point], picked: str, measure: str) -> bool:
    """Draw the clicked run: its figures, a link, and advice against its forgetting.

    Return whether the run is among those drawn.
    """
    point = next((point for point in points if point.row.run_id == picked), None)
    if point is None:
        st.caption(":material/ads_click: Click a run to see its cost and what to try next.")
        return False
    with st.container(border=True, key="cost-picked"):
        st.markdown(f"{format_run_dot(point.row.number)} **{escape_markdown(point.label)}**")
        if point.row.state:
            st.markdown(format_badge(display.FORGETTING[point.row.state]))
        st.markdown(escape_markdown(_describe_point(point, measure)))
        if st.button("Open", type="primary", icon=":material/show_chart:", key="cost-open"):
            st.switch_page("pages/runs/run.py", query_params={"run": picked})
        verdict = run_queries.read_current_run(picked).verdict
        forgetting = verdict.forgetting if verdict else None
        for index, piece in enumerate(forgetting.advice if forgetting else ()):
            draw_advice(piece, picked, f"cost-advice-{index}")
    return True


def _describe_point(point: Point, measure: str) -> str:
    gain, cost = display.format_estimate(point.gain), display.format_estimate(point.cost)
    text = (
        f"{point.method}, {describe_method(point.row)}. Gain {gain} nats a token on"
        f" {formatting.plural(point.gain.n, 'row')}; {MEASURES[measure].title.lower()} {cost}"
        f" {MEASURES[measure].unit}, {formatting.plural(point.cost.n, MEASURES[measure].items)}."
    )
    if point.status == "front":
        return f"{text} On the front."
    names = ", ".join(point.behind[:3]) + (
        f" and {len(point.behind) - 3} more" if len(point.behind) > 3 else ""
    )
    lead = "Not significantly worse than" if point.status == "alike" else "Behind"
    return f"{text} {lead} {names}."


def draw_front(points: Sequence[Point], measure: str) -> None:
    """Draw the runs of the front, least forgetting first."""
    front = sorted((p for p in points if p.status == "front"), key=lambda p: p.cost.value)
    st.markdown("**On the front**")
    for point in front[:LISTED_RUNS]:
        gain, cost = display.format_estimate(point.gain), display.format_estimate(point.cost)
        label = f"{format_run_dot(point.row.number)} {escape_markdown(point.label)}"
        with st.container(gap=None):
            st.page_link("pages/runs/run.py", label=label, query_params={"run": point.row.run_id})
            st.caption(
                f"gain {escape_markdown(gain)}, {MEASURES[measure].title.lower()} {escape_markdown(cost)}"
            )
    if len(front) > LISTED_RUNS:
        st.caption(f"and {len(front) - LISTED_RUNS:,} more; the table has them all.")


MIN_SWEEP_RUNS = 2  # minimum runs of a sweep
ICONS = {
    "first": "check_circle",
    "second": "check_circle",
    "alike": "help",
    "mixed": "help",
    "no_overlap": "block",
}


def group_rows(rows: Sequence[RunCosts]) -> tuple[str, dict[str, list[RunCosts]]]:
    """Return what can be compared, "method" or "learning rate", and its groups of runs; empty if nothing
    can.
    """
    for kind, name in (("method", format_method), ("learning rate", format_rate)):
        by_name: dict[str, list[RunCosts]] = defaultdict(list)
        for row in rows:
            by_name[name(row)].append(row)
        swept = {key: runs for key, runs in by_name.items() if len(runs) >= MIN_SWEEP_RUNS}
        if len(swept) >= 2:
            return kind, swept
    return "", {}


def compare_groups(
    rows: Sequence[RunCosts], measure: str, pair: pareto.PairedDifference = pareto.get_no_paired_difference
) -> tuple[str, list[pareto.SweepComparison]]:
    """Compare each sweep with the one with the most runs; return the kind and `pareto.compare_sweeps`'
    results.

    `pair`: differences of two runs measured on the same items. A sweep of learning rates is ordered by the
    rate, and runs of one rate by the number of epochs.
    """
    kind, grouped = group_rows(rows)
    order = sorted(grouped, key=lambda name: -len(grouped[name]))
    sweeps = {name: [_build_run_point(row, measure, name, kind) for row in grouped[name]] for name in order}
    others = order[1:]
    return kind, [
        pareto.compare_sweeps(sweeps[order[0]], sweeps[name], comparisons=len(others), pair=pair)
        for name in others
    ]


def _build_run_point(row: RunCosts, measure: str, name: str, kind: str) -> pareto.RunPoint:
    group = name if kind == "method" else f"learning rate {name}"
    run = build_pareto_run(row, measure, group)
    if kind == "learning rate":
        run["setting"] = row.num_train_epochs or 0.0
    return run


def draw_matched_comparisons(rows: Sequence[RunCosts], measure: str, pair: pareto.PairedDifference) -> None:
    """Draw which of two sweeps, methods or learning rates, forgets less at equal gain, and the figures."""
    kind, comparisons = compare_groups(rows, measure, pair)
    st.subheader("Comparison at equal gain", anchor=False)
    if not comparisons:
        st.caption(
            f"Two methods, or two learning rates, with {MIN_SWEEP_RUNS} runs each are compared here at equal"
            " gain. Launch the same data with another rate or method to add points."
        )
        return
    for comparison in comparisons:
        sentence = comparison["sentence"][:1].upper() + comparison["sentence"][1:]
        st.markdown(f":material/{ICONS[comparison['state']]}: {escape_markdown(sentence)}")
    table = [line for comparison in comparisons for line in _build_comparison_rows(comparison, measure)]
    if table:
        with st.expander("Details", key="cost-matched"):
            st.dataframe(table, hide_index=True, alt="Forgetting of both at the same gains")
    if len(comparisons) > 1:
        st.caption(
            f"Each compared with the {kind} with the most runs; intervals are corrected for the gains and"
            f" for {len(comparisons)} comparisons (Bonferroni)."
        )


class BoundedDifference(NamedTuple):
    """The difference of two sweeps at one gain, with its interval."""

    value: float
    low: float | None
    high: float | None
    why: None = None


def _build_comparison_rows(comparison: pareto.SweepComparison, measure: str) -> list[dict[str, str]]:
    unit = MEASURES[measure].unit
    return [
        {
            "Gain (nats a token)": formatting.format_number(point["gain"], 3),
            "First": comparison["first"],
            f"forgets ({unit})": formatting.format_number(point["first"], 3),
            "Second": comparison["second"],
            f"forgets ({unit}) ": formatting.format_number(point["second"], 3),
            "First − second": display.format_estimate(BoundedDifference(**point["difference"])),
        }
        for point in comparison["points"]
    ]


KEY = "cost-table"
Cell = str | float | None


def draw_table(points: Sequence[Point], measure: str, on_pick: Callable[[str], None]) -> None:
    """Draw one line per run, best gain first; a click selects the run."""
    order = sorted(points, key=lambda point: -point.gain.value)
    ids = [point.row.run_id for point in order]
    st.dataframe(
        [build_row(point, measure) for point in order],
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
        on_select=lambda: _handle_table_selection(ids, on_pick),
        selection_mode="single-row",
        key=KEY,
        alt="Gain and forgetting of each run",
    )


def _handle_table_selection(ids: Sequence[str], on_pick: Callable[[str], None]) -> None:
    rows = st.session_state[KEY]["selection"]["rows"]
    on_pick(ids[rows[0]] if rows else "")


def build_row(point: Point, measure: str) -> dict[str, Cell]:
    """Build the row of one run, starting with the figures of the plot."""
    row = point.row
    cells: dict[str, Cell] = {
        "Run": point.label,
        "Gain ↑": point.gain.value,  # early, because a phone shows only two or three columns
        "95% (gain)": _format_bounds(point.gain),
        "n (rows)": point.gain.n,
    }
    cells |= _build_forgetting_cells(row, measure)
    cells |= {
        "Place": STATUSES[point.status],
        "Method": point.method,
        "Learning rate": point.rate,
    }
    for other in MEASURES:
        if other != measure:
            cells |= _build_forgetting_cells(row, other)
    return cells


def _build_forgetting_cells(row: RunCosts, measure: str) -> dict[str, Cell]:
    what, cost = MEASURES[measure], get_cost(row, measure)
    return {
        f"{what.title} ↓": cost.value if cost else None,
        f"95% ({what.title.lower()})": _format_bounds(cost) if cost else "–",
        f"n ({what.items}s)": cost.n if cost else None,
    }


def _format_bounds(estimate: Estimate | Gain) -> str:
    return formatting.format_interval(estimate.low, estimate.high)


CHART, LINK = "cost-chart", "run"
FEW_RUNS = 12  # up to this many runs are coloured by run by default
ABOUT = (
    "\nEvery new run measures plain prose and general questions unrelated to its data, before and after"
    " training. This\nchart plots what it forgot against what it gained. Earlier runs have no such"
    " figures: clone and launch them\nagain.\n"
)


@cached(cached_queries.CALM, max_entries=4)
def _list_run_costs() -> list[RunCosts]:
    return run_outcomes.costs(get_client())


@cached(cached_queries.CALM, max_entries=4)
def _list_shares() -> list[MeasuredMix]:
    return run_outcomes.measured_shares(get_client())


def draw_costs() -> None:
    """Draw the tab below its title."""
    every = _list_run_costs()
    if not every:
        _draw_empty("No run has finished yet.")
        return
    bar = st.container(horizontal=True, vertical_alignment="bottom", gap="small")
    with bar:
        rows = _choose_dataset_runs(every)
        measure = _choose_option(
            "Forgetting", {key: what.title for key, what in MEASURES.items()}, "forgetting", "prose"
        )
    drawable, reasons = tradeoff_points.split_plottable(rows, measure)
    with bar:
        drawable, others = _choose_model_runs(drawable)
        usual = "run" if len(drawable) <= FEW_RUNS else "rate"
        color = _choose_option("Color", tradeoff_chart.COLORS, "colour", usual)
        families = _choose_families(drawable)
    if others:
        reasons["of another base model, whose tokens are others"] = others
    note = tradeoff_points.describe_excluded_runs(len(drawable), len(rows), reasons)
    if not drawable:
        _draw_empty(note)
        return
    if len({row.dataset_id for row in drawable}) > 1:
        note += " Gains on different data sets can't be compared: the front is one per data set."
    _draw_plot(drawable, measure, color, note, families)


def _choose_families(rows: Sequence[RunCosts]) -> list[str]:
    """Draw the choice of lines between related runs, if there are any."""
    ids, shares = {row.run_id for row in rows}, _list_shares()
    there = {
        "parents": any(row.parent in ids for row in rows),
        "mixes": any(row.run_id in ids and 0 < row.alpha < 1 for row in shares),
    }
    options = [kind for kind in tradeoff_chart.KINDS if there[kind]]
    if not options:
        return []
    return st.pills(
        "Lines", options, selection_mode="multi", default=options, key="lines",
        format_func=tradeoff_chart.KINDS.__getitem__, bind="query-params",
    )  # fmt: skip


def _draw_plot(rows: list[RunCosts], measure: str, color: str, note: str, families: Sequence[str]) -> None:
    pairs = build_run_pairs(tuple(row.run_id for row in rows), measure, rows)
    points = tradeoff_points.build_points(rows, measure, pairs)
    drawn = {"mixes": 0}

    def add(figure: go.Figure) -> None:
        if "mixes" in families:
            drawn["mixes"] = tradeoff_chart.add_interpolations(figure, points, _list_shares(), measure)
        if "parents" in families:
            tradeoff_chart.add_links(figure, points)

    one_set = len({row.dataset_id for row in rows}) == 1
    _draw_summary(points, measure, one_set)
    picked = st.query_params.get(LINK, "")
    wide, narrow = st.columns([3, 1.25], gap="medium")
    with wide:
        st.plotly_chart(
            tradeoff_chart.plot_tradeoff(points, measure, color, picked, add),
            key=CHART,
            on_select=_handle_plot_click,
            selection_mode="points",
            config=PLOT,
            alt=f"Gain against forgetting of {formatting.plural(len(points), 'run')}",
        )
        st.caption(escape_markdown(f"{_format_legend(points, drawn['mixes'])} {note}"))
    with narrow:
        if not draw_picked(points, picked, measure) and one_set:
            draw_front(points, measure)
    draw_table(points, measure, _select_run)
    if one_set:
        draw_matched_comparisons(rows, measure, pairs)


def _choose_dataset_runs(every: Sequence[RunCosts]) -> list[RunCosts]:
    """Draw the choice of the data set and return its runs.

    By default the data set of the linked run, else that of the newest run with figures.
    """
    names = {row.dataset_id: row.dataset_name for row in every}
    measured = [row for row in every if not tradeoff_points.describe_exclusion(row, "prose")]
    newest = (measured or list(every))[-1].dataset_id
    linked = {row.run_id: row.dataset_id for row in every}.get(st.query_params.get(LINK, ""), newest)
    options = ["", *sorted(names, key=lambda dataset_id: (dataset_id != newest, names[dataset_id]))]
    chosen = st.selectbox(
        "Data set",
        options,
        index=options.index(linked),
        key="dataset",
        format_func=lambda dataset_id: names.get(
            dataset_id, "All data sets"
        ),  # part of the link, so without counts
        width=280,
        bind="query-params",
    )
    return [row for row in every if not chosen or row.dataset_id == chosen]


def _choose_model_runs(rows: list[RunCosts]) -> tuple[list[RunCosts], int]:
    """Return the runs of one base model and the number of others; the choice is drawn if there are
    several.
    """
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.model] = counts.get(row.model, 0) + 1
    if len(counts) < 2:
        return rows, 0
    order = sorted(counts, key=lambda model: -counts[model])
    chosen = st.selectbox(
        "Base model", order, key="model", width=240, bind="query-params",
        format_func=lambda model: model.rstrip("/").rsplit("/", 1)[-1],
    )  # fmt: skip
    kept = [row for row in rows if row.model == chosen]
    return kept, len(rows) - len(kept)


def _choose_option(label: str, options: dict[str, str], key: str, usual: str) -> str:
    chosen = st.segmented_control(
        label, list(options), default=usual, key=key, format_func=options.__getitem__, bind="query-params"
    )
    return chosen or usual


def _draw_summary(points: list[Point], measure: str, one_set: bool) -> None:
    """Draw the summary."""
    front = sum(p.status == "front" for p in points)
    verb, whose = "is" if front == 1 else "are", "the front" if one_set else "the front of their data set"
    total = formatting.plural(len(points), "run")
    sentence = f"{front:,} of {total} {verb} on {whose}: none gains more and forgets less."
    limits, best = tradeoff_points.get_color_limits(measure), tradeoff_points.find_cheapest(points)
    if limits is None or not one_set:
        st.subheader(f"{formatting.plural(front, 'run')} of {len(points):,} on {whose}", anchor=False)
        return
    unit, amber = MEASURES[measure].unit, f"{limits.amber:g}"
    if best:
        name = f"{format_run_dot(best.row.number)} {escape_markdown(best.label)}"
        st.subheader(
            f":green[:material/verified:] Highest gain without relevant forgetting: {name}", anchor=False
        )
        gain, cost = (escape_markdown(display.format_estimate(part)) for part in (best.gain, best.cost))
        st.markdown(
            f"Gain **{gain}** nats a token, forgetting **{cost}** {unit}, significantly below {amber}."
            f" {sentence}"
        )
        return
    st.subheader(":orange[:material/warning:] No gain without relevant or possible forgetting", anchor=False)
    st.markdown(
        f"No run has a significant gain and forgetting significantly below {amber} {unit}. {sentence}"
    )


def _format_legend(points: Sequence[Point], mixes: int) -> str:
    parts = ["Bars are 95% intervals."]
    if len(points) > tradeoff_chart.MAX_ERROR_BARS:
        parts = ["Bars are 95% intervals, drawn for runs on the front."]
    if any(p.row.kl for p in points):
        parts.append("The larger a point, the farther the run moved from its base model (KL).")
    if mixes:
        parts.append(
            f"{formatting.plural(mixes, 'diamond')} between tuned and base model: interpolated, not trained,"
            " and not part of the front until saved as a run."
        )
    parts.append(
        "Each run is compared with the front in pairs, on the rows and items that both were measured on."
    )
    return " ".join(parts)


def _handle_plot_click() -> None:
    points = st.session_state[CHART]["selection"]["points"]
    _select_run(next((str(p["customdata"][0]) for p in points if p.get("customdata")), ""))


def _select_run(run_id: str) -> None:
    if run_id:
        st.query_params[LINK] = run_id
    else:
        st.query_params.pop(LINK, None)


def _draw_empty(sentence: str) -> None:
    with st.container(border=True, horizontal_alignment="left"):
        st.subheader("No runs to plot yet", anchor=False)
        st.markdown(f"{escape_markdown(sentence)} {ABOUT}")
        if has_right("work") and st.button(
            "Launch a run", type="primary", icon=":material/rocket_launch:", key="cost-launch"
        ):
            st.switch_page("pages/training/launch.py")
