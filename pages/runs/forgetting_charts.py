"""Forgetting charts as pure functions: documents in, Plotly figures out.

A cell or point that cannot be distinguished from noise is drawn pale and without a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from pages.shared import display
from pages.shared.charts import (
    BoundedPoint,
    IntervalRow,
    add_level,
    build_bounded_point,
    build_empty_figure,
    error_bars,
    plot_intervals,
)
from pages.shared.palette import BAD, BASE, GOOD, TRAIN, VALIDATION
from store.core.figure_schemas import Estimate
from store.evaluation.forgetting_schemas import (
    CategoryCell,
    CategoryFlips,
    CategoryMatrix,
    ChoiceForgetting,
    ColourLimits,
    ForgettingCurve,
)
from store.evaluation.verdict_schemas import MatrixChange

AMBER = "#d97a1a"
FLIPS = ("Right before", "Wrong before", "Right after", "Wrong after")


def format_category(category: str) -> str:
    """Format the name of a category: "common sense"."""
    return category.replace("_", " ")


def plot_categories(categories: Sequence[CategoryFlips]) -> go.Figure:
    """Plot the change of accuracy by category in percentage points, most forgotten first."""
    rows = [
        IntervalRow(
            f"{format_category(part.category)} (n {part.n})",
            100 * part.change.value,
            *display.scale_bounds(part.change, 100),
            get_change_color(part),
        )
        for part in sorted(categories, key=lambda part: part.change.value)
    ]
    return plot_intervals(rows, "Change of accuracy (percentage points)")


def get_change_color(part: CategoryFlips) -> str:
    """Return red for a significant loss after Holm over the categories, green for a significant gain, else
    grey.
    """
    if part.p_holm >= 0.05:
        return BASE
    return BAD if part.change.value < 0 else GOOD


def plot_flips(choices: ChoiceForgetting, ink: str) -> go.Figure:
    """Plot the questions answered correctly or wrongly before and after as a Sankey diagram."""
    assert choices.before is not None  # questions that could not be scored are not drawn
    lost, won = choices.lost or 0, choices.won or 0
    kept = round(choices.before.value * choices.n) - lost
    wrong = choices.n - kept - lost - won
    flows = [(0, 2, kept, GOOD), (0, 3, lost, BAD), (1, 2, won, TRAIN), (1, 3, wrong, BASE)]
    flows = [flow for flow in flows if flow[2]]
    counts = (kept + lost, won + wrong, kept + won, lost + wrong)
    figure = go.Figure(
        go.Sankey(
            arrangement="snap",
            textfont={"color": ink, "shadow": "none", "size": 13},
            node={
                "label": [f"{name}: {count:,}" for name, count in zip(FLIPS, counts, strict=True)],
                "color": [GOOD, BASE, GOOD, BASE],
                "pad": 26,
                "thickness": 12,
                "line": {"width": 0},
                "hovertemplate": "%{label}<extra></extra>",
            },
            link={
                "source": [flow[0] for flow in flows],
                "target": [flow[1] for flow in flows],
                "value": [flow[2] for flow in flows],
                "color": [make_translucent(flow[3]) for flow in flows],
                "hovertemplate": "%{value:,} questions<extra></extra>",
            },
        )
    )
    figure.update_layout(height=280, margin={"l": 8, "r": 8, "t": 12, "b": 12}, paper_bgcolor="rgba(0,0,0,0)")
    return figure


def make_translucent(color: str) -> str:
    """Return a translucent version of a palette colour."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.35)"


def plot_weight_changes(rows: Sequence[MatrixChange]) -> go.Figure:
    """Plot the change of each matrix in per cent of its norm, by layer and module."""
    placed = [row for row in rows if row.layer is not None and row.relative is not None]
    layers = sorted({row.layer for row in placed if row.layer is not None})
    modules = list(dict.fromkeys(row.module.removesuffix(".weight") for row in placed))
    cells = {(row.module.removesuffix(".weight"), row.layer): row for row in placed}
    figure = build_empty_figure("", "", 90 + 30 * len(modules), x_title="Layer")
    figure.add_trace(
        go.Heatmap(
            z=[
                [100 * row.relative if (row := cells.get((m, layer))) else None for layer in layers]
                for m in modules
            ],
            x=layers,
            y=[module.rsplit(".", 1)[-1] for module in modules],
            colorscale=[[0.0, "rgba(15,157,143,0.06)"], [1.0, "rgba(15,157,143,1)"]],
            zmin=0,
            xgap=1,
            ygap=1,
            colorbar={"ticksuffix": "%", "thickness": 10, "outlinewidth": 0},
            text=[[_format_matrix(cells.get((m, layer))) for layer in layers] for m in modules],
            hovertemplate="Layer %{x}, %{y}: %{text}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, title=None)
    figure.update_layout(hovermode="closest", margin={"l": 8, "r": 8, "t": 8, "b": 44})
    return figure


def _format_matrix(row: MatrixChange | None) -> str:
    if row is None:
        return "not known"
    text = f"moved by {100 * row.relative:.2g}% of its norm"
    if row.stable_rank is not None:
        text += f", stable rank {row.stable_rank:.1f}, effective rank {row.effective_rank:.0f}"
    if row.intruders is not None:
        text += f", {row.intruders} of {row.strongest} strongest directions are new"
    return text


ALL = "all questions"
ALPHA = 0.05  # for p-values after Holm
MIN_SCALE = 20  # minimum change in percentage points for full colour
LOST, WON = "214,69,69", "46,158,91"  # palette.BAD and palette.GOOD


@dataclass(frozen=True)
class KeptModelCell:
    """Results of the kept model on all items, or on those of one category."""

    category: str  # "" for all
    n: int
    change: Estimate  # change of accuracy
    lost: int
    won: int
    p_holm: float


Cell = CategoryCell | CategoryFlips | KeptModelCell


@dataclass(frozen=True)
class PointStyle:
    """Style of the points of a trace. mode: Plotly's mode, markers with or without lines."""

    mode: str
    symbol: str
    size: int


CHECKPOINT_STYLE = PointStyle("lines+markers", "circle", 8)
KEPT_MODEL_STYLE = PointStyle("markers", "diamond", 12)


def build_heatmap_columns(
    matrix: CategoryMatrix, end: ChoiceForgetting | None, kept: int | None
) -> list[tuple[str, list[Cell]]]:
    """Build the heat map's columns: a title and its cells, the first of which is for all questions.

    end: the verdict's results of the `kept` model, which was asked more questions.
    """
    columns: list[tuple[str, list[Cell]]] = []
    for step in matrix.steps:
        cells = [cell for cell in matrix.cells if cell.step == step]
        whole = [cell for cell in matrix.totals if cell.step == step]
        if whole:
            columns.append((f"{step:,}", [*whole, *cells]))
    if end and end.change:
        title = "kept" if kept is None else f"kept: {kept:,}"
        lost, won, p = end.lost or 0, end.won or 0, 1.0 if end.p is None else end.p
        whole_kept = KeptModelCell("", end.n, end.change, lost, won, p)
        columns.append((title, [whole_kept, *end.categories]))
    return columns


def plot_heatmap(columns: Sequence[tuple[str, list[Cell]]]) -> go.Figure:
    """Plot the change of accuracy by category and checkpoint, in percentage points."""
    names = sorted({c.category for _, cells in columns for c in cells if c.category})
    rows = ["", *names]
    at = {(title, cell.category): cell for title, cells in columns for cell in cells}
    titles = [title for title, _ in columns]
    grid = [[at.get((title, name)) for title in titles] for name in rows]
    scale = max(
        [MIN_SCALE, *(abs(_convert_to_points(c)) for line in grid for c in line if c and is_significant(c))]
    )
    figure = build_empty_figure("", "", 90 + 34 * len(rows))
    labels = [format_category(name) or ALL for name in rows]
    for sure, strength in ((False, 0.15), (True, 1.0)):
        figure.add_trace(
            go.Heatmap(
                z=[[_mask_points(cell, sure) for cell in line] for line in grid],
                x=titles,
                y=labels,
                zmin=-scale,
                zmax=scale,
                colorscale=_build_color_scale(strength),
                showscale=False,
                xgap=2,
                ygap=2,
                text=[[_format_cell_label(cell) if sure else "" for cell in line] for line in grid],
                texttemplate="%{text}" if sure else None,
                textfont={"color": "white", "size": 12},
                customdata=[[format_cell(cell) for cell in line] for line in grid],
                hovertemplate="%{customdata}<extra></extra>",
                hoverongaps=False,
            )
        )
    figure.update_yaxes(autorange="reversed", showgrid=False, title=None, type="category")
    figure.update_xaxes(type="category", side="top", title={"text": "Optimizer step", "standoff": 6})
    figure.update_layout(hovermode="closest", margin={"l": 8, "r": 8, "t": 52, "b": 8})
    return figure


def is_significant(cell: Cell) -> bool:
    """Whether the change can be distinguished from noise."""
    return cell.p_holm < ALPHA


def format_cell(cell: Cell | None) -> str:
    """Describe one cell in words, with its interval and n."""
    if cell is None:
        return ""
    points = display.format_estimate(cell.change, scale=100)
    text = f"{format_category(cell.category) or ALL}: {points} points<br>"
    text += f"{cell.lost} lost, {cell.won} won of n {cell.n}"
    return text if is_significant(cell) else f"{text}<br>can't be distinguished from noise"


def _convert_to_points(cell: Cell) -> float:
    return float(100 * cell.change.value)


def _mask_points(cell: Cell | None, sure: bool) -> float | None:
    return None if cell is None or is_significant(cell) != sure else _convert_to_points(cell)


def _format_cell_label(cell: Cell | None) -> str:
    return (
        "" if cell is None or not is_significant(cell) else display.format_signed(_convert_to_points(cell), 0)
    )


def _build_color_scale(strength: float) -> list[list[Any]]:
    """Build the colour scale from losses through no change to gains; pale if `strength` is low."""
    faint = 0.15 + 0.25 * strength
    ends = [0.1 + 0.9 * strength] * 2
    return [
        [0.0, f"rgba({LOST},{ends[0]:.2f})"],
        [0.4999, f"rgba({LOST},{faint * strength:.2f})"],
        [0.5, f"rgba(127,140,146,{0.35 * strength + 0.05:.2f})"],
        [0.5001, f"rgba({WON},{faint * strength:.2f})"],
        [1.0, f"rgba({WON},{ends[1]:.2f})"],
    ]


def plot_loss_rise(
    course: ForgettingCurve, end: Estimate | None, kept: int | None, limits: ColourLimits, what: str
) -> Any:
    """Plot the forgetting on a probe by step, with intervals.

    This is the rise of the loss above the base model's or, for a probe with options, the decrease of the
    share of correct answers. The kept model, asked all items, is drawn as a diamond.
    """
    shares, unit = course.kind == "choices", course.unit
    title = "Share of answers lost" if shares else "Rise of the loss (nats a token)"
    figure = build_empty_figure(f"{what[:1].upper()}{what[1:]}, against the base model", title, 320)
    measured = (build_bounded_point(p.step, p.value, p.low, p.high, p.n) for p in course.points)
    bounded = [point for point in measured if point]
    add_level(figure, 0, "Base model")
    figure.add_trace(_build_error_bars(bounded, CHECKPOINT_STYLE, unit, limits))
    last = end and kept is not None and build_bounded_point(kept, end.value, end.low, end.high, end.n)
    if last:
        figure.add_trace(_build_error_bars([last], KEPT_MODEL_STYLE, unit, limits))
    highest = max([*(p.high for p in bounded), (end and end.high) or 0.0, 0.0])
    for level, color, words in (
        (limits.amber, AMBER, "forgot some"),
        (limits.red, BAD, "forgot much"),
    ):
        if level < 1.4 * highest + limits.amber:
            figure.add_hline(
                y=level,
                line={"dash": "dot", "color": color, "width": 1.4},
                annotation={"text": f"{words}, from {level:g}", "font": {"color": color, "size": 12}},
                annotation_position="top left",
            )
    reach = max([kept or 0, *(p.x for p in bounded)])
    figure.update_xaxes(range=[0, max(1.0, 1.06 * reach)])  # starts at the base model
    figure.update_layout(showlegend=False, hovermode="closest")
    return figure


def _build_error_bars(
    points: Sequence[BoundedPoint], style: PointStyle, unit: str, limits: ColourLimits
) -> Any:
    """Build a trace of points coloured by the limit they significantly exceed, or green for a significant
    gain.
    """
    inks = [
        BAD if p.low > limits.red else AMBER if p.low > limits.amber else GOOD if p.high < 0 else BASE
        for p in points
    ]
    return go.Scatter(
        x=[p.x for p in points],
        y=[p.value for p in points],
        mode=style.mode,
        line={"color": VALIDATION, "width": 2},
        marker={"size": style.size, "color": inks, "symbol": style.symbol},
        error_y=error_bars(points, VALIDATION),
        text=[f"{display.format_estimate(p)} {unit}, n {p.n}" for p in points],
        hovertemplate="step %{x}: %{text}<extra></extra>",
    )
