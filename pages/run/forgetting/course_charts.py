"""What was forgotten when, as pure functions: documents of `forgetting_course` in, Plotly figures out.

A cell or point that can't be told from noise looks like it: pale, and without a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import plotly.graph_objects as go

from pages.run.forgetting.forgetting_charts import AMBER, category_name
from pages.run_parts.bounded_points import BoundedPoint, bounded_point, error_bars
from pages.shared import wording
from pages.shared.palette import BAD, BASE, GOOD, VALIDATION
from pages.shared.traces import add_level, empty_figure
from store.documents.figures.estimate import Estimate
from store.documents.verdicts.forgetting import (
    CategoryCell,
    CategoryFlips,
    CategoryMatrix,
    ColourLimits,
    ForgettingCourse,
    ForgottenChoices,
)

ALL = "all questions"
SURE = 0.05  # Holm's p
LEAST_SCALE = 20  # percentage points at which a colour is full, at least
LOST, WON = "214,69,69", "46,158,91"  # palette.BAD and palette.GOOD


class CellOfKept(TypedDict):
    """All items, or those of one category, asked of the kept model."""

    category: str  # "" for all
    n: int
    change: Estimate  # of accuracy
    lost: int
    won: int
    p_holm: float


Cell = CategoryCell | CategoryFlips | CellOfKept


@dataclass(frozen=True)
class PointStyle:
    """How the points of a trace look. mode: of Plotly, markers with or without lines."""

    mode: str
    symbol: str
    size: int


ON_THE_WAY = PointStyle("lines+markers", "circle", 8)
KEPT = PointStyle("markers", "diamond", 12)


def columns_of(
    matrix: CategoryMatrix, end: ForgottenChoices | None, kept: int | None
) -> list[tuple[str, list[Cell]]]:
    """The heat map's columns: a title and its cells, the first of them of all questions. end: the document of
    the questions in the verdict, asked of the `kept` model, which are more."""
    columns: list[tuple[str, list[Cell]]] = []
    for step in matrix["steps"]:
        cells = [cell for cell in matrix["cells"] if cell["step"] == step]
        whole = [cell for cell in matrix["totals"] if cell["step"] == step]
        if whole:
            columns.append((f"{step:,}", [*whole, *cells]))
    if end and end["change"]:
        title = "kept" if kept is None else f"kept: {kept:,}"
        whole_kept: CellOfKept = {
            "category": "",
            "n": end["n"],
            "change": end["change"],
            "lost": end["lost"],
            "won": end["won"],
            "p_holm": end["p"],
        }
        columns.append((title, [whole_kept, *end["categories"]]))
    return columns


def heat_chart(columns: Sequence[tuple[str, list[Cell]]]) -> go.Figure:
    """Change of accuracy by category and checkpoint, in percentage points."""
    names = sorted({c["category"] for _, cells in columns for c in cells if c["category"]})
    rows = ["", *names]
    at = {(title, cell["category"]): cell for title, cells in columns for cell in cells}
    titles = [title for title, _ in columns]
    grid = [[at.get((title, name)) for title in titles] for name in rows]
    scale = max([LEAST_SCALE, *(abs(_points(c)) for line in grid for c in line if c and is_sure(c))])
    figure = empty_figure("", "", 90 + 34 * len(rows))
    labels = [category_name(name) or ALL for name in rows]
    for sure, strength in ((False, 0.15), (True, 1.0)):
        figure.add_trace(
            go.Heatmap(
                z=[[_drawn_points(cell, sure) for cell in line] for line in grid],
                x=titles,
                y=labels,
                zmin=-scale,
                zmax=scale,
                colorscale=_scale(strength),
                showscale=False,
                xgap=2,
                ygap=2,
                text=[[_label(cell) if sure else "" for cell in line] for line in grid],
                texttemplate="%{text}" if sure else None,
                textfont={"color": "white", "size": 12},
                customdata=[[cell_text(cell) for cell in line] for line in grid],
                hovertemplate="%{customdata}<extra></extra>",
                hoverongaps=False,
            )
        )
    figure.update_yaxes(autorange="reversed", showgrid=False, title=None, type="category")
    figure.update_xaxes(type="category", side="top", title={"text": "Optimiser step", "standoff": 6})
    figure.update_layout(hovermode="closest", margin={"l": 8, "r": 8, "t": 52, "b": 8})
    return figure


def is_sure(cell: Cell) -> bool:
    """Whether it can be told from noise."""
    return bool(cell["p_holm"] < SURE)


def cell_text(cell: Cell | None) -> str:
    """One cell in words, with its interval and n."""
    if cell is None:
        return ""
    points = wording.estimate(cell["change"], scale=100)
    text = f"{category_name(cell['category']) or ALL}: {points} points<br>"
    text += f"{cell['lost']} lost, {cell['won']} won of n {cell['n']}"
    return text if is_sure(cell) else f"{text}<br>can't be told from noise"


def _points(cell: Cell) -> float:
    return float(100 * cell["change"]["value"])


def _drawn_points(cell: Cell | None, sure: bool) -> float | None:
    return None if cell is None or is_sure(cell) != sure else _points(cell)


def _label(cell: Cell | None) -> str:
    return "" if cell is None or not is_sure(cell) else wording.signed(_points(cell), 0)


def _scale(strength: float) -> list[list[Any]]:
    """From all lost over nothing to all won; pale where `strength` is low."""
    faint = 0.15 + 0.25 * strength
    ends = [0.1 + 0.9 * strength] * 2
    return [
        [0.0, f"rgba({LOST},{ends[0]:.2f})"],
        [0.4999, f"rgba({LOST},{faint * strength:.2f})"],
        [0.5, f"rgba(127,140,146,{0.35 * strength + 0.05:.2f})"],
        [0.5001, f"rgba({WON},{faint * strength:.2f})"],
        [1.0, f"rgba({WON},{ends[1]:.2f})"],
    ]


def rise_chart(
    course: ForgettingCourse, end: Estimate | None, kept: int | None, limits: ColourLimits, what: str
) -> Any:
    """By how much the loss on a probe of texts lies above the base model's, or of one with options the share
    of right answers below it, by step, with its interval; the kept model, asked all items, as a diamond."""
    shares, unit = course["kind"] == "choices", course["unit"]
    title = "Share of answers lost" if shares else "Rise of the loss (nats a token)"
    figure = empty_figure(f"{what[:1].upper()}{what[1:]}, against the base model", title, 320)
    measured = (bounded_point(p["step"], p["value"], p["low"], p["high"], p["n"]) for p in course["points"])
    bounded = [point for point in measured if point]
    add_level(figure, 0, "Base model")
    figure.add_trace(_bars(bounded, ON_THE_WAY, unit, limits))
    last = end and kept is not None and bounded_point(kept, end["value"], end["low"], end["high"], end["n"])
    if last:
        figure.add_trace(_bars([last], KEPT, unit, limits))
    highest = max([*(p.high for p in bounded), (end and end["high"]) or 0.0, 0.0])
    for level, color, words in (
        (limits["amber"], AMBER, "forgot some"),
        (limits["red"], BAD, "forgot much"),
    ):
        if level < 1.4 * highest + limits["amber"]:
            figure.add_hline(
                y=level,
                line={"dash": "dot", "color": color, "width": 1.4},
                annotation={"text": f"{words}, from {level:g}", "font": {"color": color, "size": 12}},
                annotation_position="top left",
            )
    reach = max([kept or 0, *(p.x for p in bounded)])
    figure.update_xaxes(range=[0, max(1.0, 1.06 * reach)])  # from the base model on
    figure.update_layout(showlegend=False, hovermode="closest")
    return figure


def _bars(points: Sequence[BoundedPoint], style: PointStyle, unit: str, limits: ColourLimits) -> Any:
    """Each in the colour of the limit that it surely passes, or green where it surely gained."""
    inks = [
        BAD if p.low > limits["red"] else AMBER if p.low > limits["amber"] else GOOD if p.high < 0 else BASE
        for p in points
    ]
    return go.Scatter(
        x=[p.x for p in points],
        y=[p.value for p in points],
        mode=style.mode,
        line={"color": VALIDATION, "width": 2},
        marker={"size": style.size, "color": inks, "symbol": style.symbol},
        error_y=error_bars(points, VALIDATION),
        text=[f"{wording.estimate(p._asdict())} {unit}, n {p.n}" for p in points],
        hovertemplate="step %{x}: %{text}<extra></extra>",
    )
