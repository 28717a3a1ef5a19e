"""Charts of a bias check as pure functions: figures in, Plotly figures and table rows out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from engine.bias.rates import TOXICITY
from pages.shared import display
from pages.shared.charts import build_empty_figure, shorten_name
from pages.shared.palette import BAD, BASE, BUSY, GOOD
from store.core import formatting
from store.core.figure_schemas import BiasAnswer, BiasFigure, Estimate, get_measure_title

SHARE = "share"
PREFERRED = "stereotype_share"  # 0.5 without bias
ANSWERS: dict[BiasAnswer, str] = {
    "worse": "Worse",
    "better": "Better",
    "no_worse": "Not worse",
    "cant_tell": "Inconclusive",
}
ANSWER_COLORS: dict[BiasAnswer, str] = {"worse": BAD, "better": GOOD, "no_worse": GOOD, "cant_tell": BUSY}
ROW_OFFSET = 0.16  # vertical offset of base and tuned in a row


def sort_figures(figures: Sequence[BiasFigure]) -> list[BiasFigure]:
    """Sort figures: worse ones first, and overall ones before those of a group."""
    return sorted(figures, key=lambda figure: (figure.answer != "worse", bool(figure.group)))


def describe_levels_axis(figures: Sequence[BiasFigure]) -> str:
    """Describe the chart of levels, and the direction of more bias.

    It is a caption rather than an axis title, because axis titles do not wrap.
    """
    if _compute_neutral_level(figures):
        return "%; above 50: more bias"
    more = "higher: more harm" if _has_harm_figures(figures) else "further from 0: more bias"
    return f"%; {more}"


def plot_levels(figures: Sequence[BiasFigure]) -> go.Figure:
    """Plot base and tuned in per cent with intervals, one row per figure."""
    return _plot_rows(figures, {"base": -ROW_OFFSET, "tuned": ROW_OFFSET}, _compute_neutral_level(figures))


def describe_changes_axis(figures: Sequence[BiasFigure]) -> str:
    """Describe the chart of changes, and the direction of more bias."""
    return f"Change in points; above 0: more {'harm' if _has_harm_figures(figures) else 'bias'}"


def plot_changes(figures: Sequence[BiasFigure]) -> go.Figure:
    """Plot the change from base to tuned in points, one row per figure; right of 0 is more bias."""
    return _plot_rows(figures, {"change": 0.0}, 0)


def _compute_neutral_level(figures: Sequence[BiasFigure]) -> float:
    """Return the level without bias, in per cent."""
    return 50 if all(figure.measure == PREFERRED for figure in figures) else 0


def _has_harm_figures(figures: Sequence[BiasFigure]) -> bool:
    return all(figure.kind == TOXICITY for figure in figures)


def _plot_rows(figures: Sequence[BiasFigure], sides: Mapping[str, float], level: float) -> go.Figure:
    """Plot rows of figures. sides: base, tuned or change -> vertical offset of its points in the row."""
    chart = build_empty_figure("", "", 64 + 40 * len(figures), x_title="")
    names = [shorten_name(format_label(figure), 46) for figure in figures]
    for which, beside in sides.items():
        drawn = [
            (place, figure, estimate)
            for place, figure in enumerate(figures)
            if (estimate := _get_estimate(figure, which))
        ]
        inks = [BASE if which == "base" else ANSWER_COLORS[figure.answer] for _, figure, _ in drawn]
        chart.add_trace(
            go.Scatter(
                x=[100 * estimate.value for _, _, estimate in drawn],
                y=[place + beside for place, _, _ in drawn],
                error_x=_error_bars([estimate for _, _, estimate in drawn]),
                mode="markers",
                marker={"size": 9, "color": inks},
                hovertext=[
                    f"{names[place]}, {which}: {format_share(estimate)}" for place, _, estimate in drawn
                ],
                hovertemplate="%{hovertext}<extra></extra>",
                showlegend=False,
            )
        )
    chart.add_vline(x=level, line={"dash": "dash", "color": BASE, "width": 1.2})
    chart.update_yaxes(showgrid=False, automargin=True, title=None, zeroline=False)
    places = list(range(len(names)))
    chart.update_yaxes(tickvals=places, ticktext=names, range=[len(names) - 0.5, -0.5])
    chart.update_layout(hovermode="closest", margin={"l": 12, "t": 8, "b": 28})
    return chart


def _get_estimate(figure: BiasFigure, which: str) -> Estimate | None:
    sides = {"base": figure.base, "tuned": figure.tuned, "change": figure.change}
    return sides[which]


def _error_bars(estimates: Sequence[Estimate]) -> dict[str, object]:
    above, below = [], []
    for estimate in estimates:
        low, high = display.scale_bounds(estimate, 100)
        value = 100 * estimate.value
        above.append(0 if high is None else high - value)
        below.append(0 if low is None else value - low)
    return {
        "type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 2.5, "width": 0,
        "color": "rgba(127,140,146,0.65)",
    }  # fmt: skip


def format_label(figure: BiasFigure) -> str:
    """Format the label of a figure in a chart."""
    if figure.group:
        of = "Continuations: " if figure.kind == TOXICITY else ""  # unlike figures of whole openings
        return f"{of}{figure.group} (n {figure.tuned.n:,})"
    return f"{get_measure_title(figure.measure, '').capitalize()} (n {figure.tuned.n:,})"


def format_share(estimate: Estimate, *, sign: bool = False) -> str:
    """Format a share in per cent or points, with its interval."""
    return _format_estimate(estimate, 100, " points" if sign else "%", sign)


def format_amount(figure: BiasFigure, which: str) -> str:
    """Format base, tuned or change of a figure in its unit; a dash if there is none."""
    estimate = _get_estimate(figure, which)
    if estimate is None:
        return "–"
    if figure.unit == SHARE:
        return format_share(estimate, sign=which == "change")
    return _format_estimate(estimate, 1, f" {figure.unit}", which == "change")


def _format_estimate(estimate: Estimate, scale: float, unit: str, sign: bool) -> str:
    low, high = display.scale_bounds(estimate, scale)
    places = formatting.compute_decimals(low, high, 1)
    value = scale * estimate.value
    text = display.format_signed(value, places) if sign else formatting.format_number(value, places)
    ends = "" if low is None or high is None else f" ({formatting.format_interval(low, high)})"
    return f"{text}{unit}{ends}"


def build_row(figure: BiasFigure) -> dict[str, str | int]:
    """Build the table row of a figure."""
    name = get_measure_title(figure.measure, figure.group)  # the group is spelled as by the user
    return {
        "Result": ANSWERS[figure.answer],
        "Metric": name[:1].upper() + name[1:],
        "Base": format_amount(figure, "base"),
        "Tuned": format_amount(figure, "tuned"),
        "Change": format_amount(figure, "change"),
        "n": figure.tuned.n,
        "Limit": format_limit(figure),
        "Reason": (figure.why or ""),
        "Probe": figure.probe,
    }


def format_limit(figure: BiasFigure) -> str:
    """Format the limit in the figure's unit."""
    if figure.unit == SHARE:
        return f"{100 * figure.limit:g} points"
    return f"{figure.limit:g} {figure.unit}"
