"""The charts of a bias check, as pure functions: figures in, Plotly figures and table lines out."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from engine.diagnostics import phrasing
from engine.diagnostics.bias.judged import named
from pages.shared import wording
from pages.shared.charts import IntervalRow, interval_chart
from pages.shared.palette import BAD, BASE, BUSY, GOOD
from pages.shared.traces import empty_figure, short
from store.documents.figures.estimate import Estimate
from store.documents.shipping.bias import BiasAnswer, BiasFigure

SHARE = "share"
ANSWERS: dict[BiasAnswer, str] = {
    "worse": "Worse",
    "better": "Better",
    "no_worse": "No worse",
    "cant_tell": "Can't be told",
}
INKS: dict[BiasAnswer, str] = {"worse": BAD, "better": GOOD, "no_worse": GOOD, "cant_tell": BUSY}
APART = 0.16  # by which base and tuned lie apart in a row


def levels_chart(figures: Sequence[BiasFigure]) -> go.Figure:
    """Base and tuned with their intervals, a row a figure; those in per cent."""
    chart = empty_figure("", "", 90 + 44 * len(figures), x_title="Per cent; further from 0 is more bias")
    names = [short(label(figure), 46) for figure in figures]
    for which, side, ink in (("base", -APART, BASE), ("tuned", APART, "")):
        shown = [(place, figure, estimate) for place, figure in enumerate(figures)
                 if (estimate := _side(figure, which))]  # fmt: skip
        chart.add_trace(
            go.Scatter(
                x=[100 * estimate["value"] for _, _, estimate in shown],
                y=[place + side for place, _, _ in shown],
                error_x=_reach([estimate for _, _, estimate in shown]),
                mode="markers",
                marker={"size": 9, "color": [ink or INKS[figure["answer"]] for _, figure, _ in shown]},
                hovertext=[f"{names[place]}, {which}: {percent(estimate)}" for place, _, estimate in shown],
                hovertemplate="%{hovertext}<extra></extra>",
                showlegend=False,
            )
        )
    chart.add_vline(x=0, line={"dash": "dash", "color": BASE, "width": 1.2})
    last = len(names) - 0.5
    chart.update_yaxes(
        showgrid=False, automargin=True, title=None, zeroline=False,
        tickvals=list(range(len(names))), ticktext=names, range=[last, -0.5],
    )  # fmt: skip
    chart.update_layout(hovermode="closest", margin={"l": 12, "t": 8, "b": 44})
    return chart


def _side(figure: BiasFigure, which: str) -> Estimate | None:
    return figure["base"] if which == "base" else figure["tuned"]


def _reach(estimates: Sequence[Estimate]) -> dict[str, object]:
    above, below = [], []
    for estimate in estimates:
        low, high = wording.ends(estimate, 100)
        value = 100 * estimate["value"]
        above.append(0 if high is None else high - value)
        below.append(0 if low is None else value - low)
    return {
        "type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 2.5, "width": 0,
        "color": "rgba(127,140,146,0.65)",
    }  # fmt: skip


def changes_chart(figures: Sequence[BiasFigure]) -> go.Figure:
    """The change from base to tuned in points, a row a figure; right of 0 is more bias."""
    rows = [
        IntervalRow(
            short(label(figure), 46),
            100 * change["value"],
            *wording.ends(change, 100),
            INKS[figure["answer"]],
        )
        for figure in figures
        if (change := figure["change"])
    ]
    return interval_chart(rows, "Change from base to tuned (points; right of 0 is more bias)")


def label(figure: BiasFigure) -> str:
    """The figure as a row of a chart names it."""
    if figure["group"]:
        return f"{figure['group']} (n {figure['tuned']['n']:,})"
    return f"{named(figure['measure'], '').capitalize()} (n {figure['tuned']['n']:,})"


def percent(estimate: Estimate, *, sign: bool = False) -> str:
    """A share as per cent, or points, with its interval."""
    return _text(estimate, 100, " points" if sign else "%", sign)


def amount(figure: BiasFigure, which: str) -> str:
    """Base, tuned or change of a figure in its unit; a dash for none."""
    estimate = figure["change"] if which == "change" else _side(figure, which)
    if estimate is None:
        return "–"
    if figure["unit"] == SHARE:
        return percent(estimate, sign=which == "change")
    return _text(estimate, 1, f" {figure['unit']}", which == "change")


def _text(estimate: Estimate, scale: float, unit: str, sign: bool) -> str:
    low, high = wording.ends(estimate, scale)
    places = phrasing.decimals(low, high, 1)
    value = scale * estimate["value"]
    text = wording.signed(value, places) if sign else phrasing.number(value, places)
    ends = "" if low is None or high is None else f" ({phrasing.interval(low, high)})"
    return f"{text}{unit}{ends}"


def line(figure: BiasFigure) -> dict[str, str | int]:
    """A figure as a line of a table."""
    return {
        "Answer": ANSWERS[figure["answer"]],
        "Figure": named(figure["measure"], figure["group"]).capitalize(),
        "Base": amount(figure, "base"),
        "Tuned": amount(figure, "tuned"),
        "Change": amount(figure, "change"),
        "n": figure["tuned"]["n"],
        "Counts as no worse under": limit_text(figure),
        "Why": figure.get("why", ""),
        "Probe": figure["probe"],
    }


def limit_text(figure: BiasFigure) -> str:
    """The limit in the figure's unit."""
    if figure["unit"] == SHARE:
        return f"{100 * figure['limit']:g} points"
    return f"{figure['limit']:g} {figure['unit']}"
