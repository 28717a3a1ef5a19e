"""The charts of whether a run overfits, as pure functions: curves and verdict documents in, figures out.

Training and validation have the colours that they have everywhere; both losses are of the same mode (no
dropout), so that the ribbon between them is the gap and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from engine.diagnostics.course.overfitting import MATERIAL_GL, generalisation_loss
from pages.run_parts.bounded_points import bounded_point, error_bars
from pages.shared.charts import IntervalRow, interval_chart
from pages.shared.palette import BAD, BASE, GRID, TRAIN, VALIDATION
from pages.shared.traces import ChartLine, add_best, add_line, add_onset, empty_figure, steps_of, values_of
from store.documents.figures.estimate import Estimate
from store.documents.verdicts.memorisation import Membership, MembershipPoint, MembershipScoreName
from store.documents.verdicts.overfitting import GapPoint, Overfitting

AMBER = "#d97a1a"
STOP_GL = 5.0  # per cent: where Prechelt's rule would stop
LEVELS = {"red": BAD, "amber": AMBER, "green": VALIDATION, "unclear": BASE}
SCORES: dict[MembershipScoreName, str] = {
    "loss": "Loss",
    "calibrated": "Loss beyond the base's",
    "min_k": "Min-K%",
    "margin": "Margin of the answers",
}


def seen_curve(curve: pa.Table, points: Sequence[GapPoint]) -> tuple[np.ndarray, np.ndarray]:
    """Steps and losses of the probe of training rows: as logged, and as the verdict has them where it has."""
    losses = dict(zip(steps_of(curve).tolist(), values_of(curve, "value").tolist(), strict=True))
    losses |= {int(point["step"]): float(point["train"]["value"]) for point in points}
    steps = sorted(losses)
    return np.asarray(steps, np.int64), np.asarray([losses[step] for step in steps], np.float64)


def gap_chart(
    seen: pa.Table,
    validation: pa.Table,
    shape: Overfitting | None,
    axis: str,
    *,
    path: Sequence[MembershipPoint] = (),
) -> go.Figure:
    """Both losses with the gap as a ribbon, the gap with its intervals, membership, and GL, over the same
    steps.

    shape: the `overfitting` part of a verdict, or nothing while there is none; path: of its `membership`.
    """
    points: Sequence[GapPoint] = shape["gap"] if shape else ()
    height = 710 if path else 560
    figure = empty_figure("Loss on rows it trains on and on rows it never saw", axis, height)
    _strips(figure, bool(points), bool(path))
    x, inside = seen_curve(seen, points)
    steps, outside = steps_of(validation), values_of(validation, "value")
    _ribbon(figure, x, inside, steps, outside)
    add_line(figure, x, inside, ChartLine("Training rows", TRAIN, 2.4, markers=len(x) <= 60))
    add_line(figure, steps, outside, ChartLine("Validation rows", VALIDATION, 2.6, markers=len(steps) <= 60))
    trained = [(step, loss) for step, loss in zip(steps.tolist(), outside.tolist(), strict=True) if step > 0]
    best = min((pair for pair in trained if np.isfinite(pair[1])), key=lambda pair: pair[1], default=None)
    if best:
        add_best(figure, *best)
    add_onset(figure, shape, [*x, *steps])
    if points:
        _gaps(figure, points)
    if path:
        _areas(figure, path)
    _strip_of_gl(figure, steps, outside)
    return figure


def _strips(figure: go.Figure, gaps: bool, areas: bool) -> None:
    """Plots over one axis of steps: losses, the gap and membership where they are known, GL."""
    axis = {"gridcolor": GRID, "zeroline": False, "automargin": True, "title": {"standoff": 12}}
    tops = {"yaxis": [0.5, 1.0], "yaxis2": [0.24, 0.42], "yaxis3": [0.0, 0.16]}
    if areas:
        tops = {"yaxis": [0.58, 1.0], "yaxis2": [0.38, 0.52], "yaxis4": [0.18, 0.32], "yaxis3": [0.0, 0.12]}
    elif not gaps:
        tops = {"yaxis": [0.32, 1.0], "yaxis3": [0.0, 0.22]}
    titles = {"yaxis2": "Gap", "yaxis3": "GL (%)", "yaxis4": "AUC"}
    for name, domain in tops.items():
        more = {**axis, "title": {"text": titles[name]}, "anchor": "x"} if name in titles else {}
        figure.update_layout({name: {"domain": domain, **more}})
    figure.update_layout(xaxis={"anchor": "y3"}, margin={"b": 44})


def _ribbon(
    figure: go.Figure, x: np.ndarray, inside: np.ndarray, steps: np.ndarray, outside: np.ndarray
) -> None:
    """Between the two losses, from the first step that both have to the last."""
    common = set(x.tolist()) & set(steps.tolist())
    if len(common) < 2:
        return
    # at the steps of either, so that it lies between the drawn lines
    both = sorted(s for s in {*x.tolist(), *steps.tolist()} if min(common) <= s <= max(common))
    below = np.interp(both, x, inside)
    above = np.interp(both, steps, outside)
    figure.add_trace(
        go.Scatter(
            x=[*both, *both[::-1]], y=[*above, *below[::-1]], fill="toself", fillcolor=VALIDATION,
            opacity=0.18, line={"width": 0}, mode="lines", hoverinfo="skip", name="Gap", showlegend=False,
        )
    )  # fmt: skip


def _gaps(figure: go.Figure, points: Sequence[GapPoint]) -> None:
    """Each gap with its interval, in the colour of what it is of the validation loss."""
    for level in LEVELS:
        gaps = [(point["step"], point["gap"]) for point in points if point["level"] == level]
        measured = (bounded_point(x, g["value"], g["low"], g["high"], g["n"]) for x, g in gaps)
        bounded = [point for point in measured if point]
        if not bounded:
            continue
        texts = [f"{p.value:.3f} ({p.low:.3f} to {p.high:.3f})" for p in bounded]
        figure.add_trace(
            go.Scatter(
                x=[p.x for p in bounded], y=[p.value for p in bounded], yaxis="y2", mode="markers",
                error_y=error_bars(bounded, LEVELS[level]), marker={"size": 7, "color": LEVELS[level]},
                name=f"Gap, {level}", showlegend=False, text=texts,
                hovertemplate="gap %{text}<extra></extra>",
            )
        )  # fmt: skip
    _level(figure, "y2", 0, BASE, "dash")


def _areas(figure: go.Figure, path: Sequence[MembershipPoint]) -> None:
    """The AUC of each step with its interval, over the base model's interval as a band."""
    placebo = path[-1]["placebo"]
    if placebo["low"] is not None:
        figure.add_shape(
            type="rect", xref="paper", x0=0, x1=1, yref="y4", y0=placebo["low"], y1=placebo["high"],
            fillcolor=BASE, opacity=0.16, line={"width": 0}, layer="below",
        )  # fmt: skip
    areas = [(point["step"], point["auc"], point["excess"]) for point in path]
    inks = [BAD if (excess["low"] or 0) > 0 else VALIDATION for _, _, excess in areas]
    for (step, area, _), ink in zip(areas, inks, strict=True):
        low, high = (area["value"] if end is None else end for end in (area["low"], area["high"]))
        figure.add_trace(
            go.Scatter(
                x=[step], y=[area["value"]], yaxis="y4", mode="markers", showlegend=False,
                error_y={"type": "data", "symmetric": False, "array": [high - area["value"]],
                         "arrayminus": [area["value"] - low], "thickness": 2, "width": 0, "color": ink},
                marker={"size": 7, "color": ink}, name="AUC",
                hovertemplate=f"AUC %{{y:.3f}} ({low:.3f} to {high:.3f})<extra></extra>",
            )
        )  # fmt: skip
    intervals = [placebo, *(area for _, area, _ in areas)]
    ends = [end for interval in intervals for end in (interval["low"], interval["high"])]
    reach = [0.45, 0.55, *(end for end in ends if end is not None)]
    figure.update_layout(yaxis4={"range": [min(reach) - 0.03, min(1.03, max(reach) + 0.03)]})
    _level(figure, "y4", 0.5, BASE, "dash")


def _strip_of_gl(figure: go.Figure, steps: np.ndarray, losses: np.ndarray) -> None:
    """How far each validation lies above the lowest so far."""
    if not len(steps):
        return
    rises = generalisation_loss(losses)
    inks = [BAD if r >= STOP_GL else AMBER if r >= MATERIAL_GL else VALIDATION for r in rises]
    figure.add_trace(
        go.Bar(
            x=steps, y=rises, yaxis="y3", marker={"color": inks}, name="GL", showlegend=False,
            hovertemplate="%{y:.1f}% above the lowest so far<extra></extra>",
        )
    )  # fmt: skip
    top = float(np.nanmax(rises, initial=0.0))
    figure.update_layout(yaxis3={"range": [0, max(2.0, 1.15 * top)]})
    for level, ink in ((MATERIAL_GL, AMBER), (STOP_GL, BAD)):
        if level <= max(2.0, 1.15 * top):
            _level(figure, "y3", level, ink, "dot")


def _level(figure: go.Figure, axis: str, level: float, ink: str, dash: str) -> None:
    line = {"dash": dash, "color": ink, "width": 1.3}
    figure.add_shape(type="line", xref="paper", x0=0, x1=1, yref=axis, y0=level, y1=level, line=line)


def membership_chart(membership: Membership) -> go.Figure:
    """The area of each score under the tuned model, and under the base model as a placebo, against a coin."""
    rows = []
    for name, score in membership["scores"].items():
        p = score["p_holm"]  # none of scores that follow the rows' difficulty
        sure = p is not None and p < 0.05 and score["excess"]["value"] > 0
        rows.append(_estimate(SCORES[name], score["auc"], BAD if sure else VALIDATION))
        if score["placebo"]:
            rows.append(_estimate(f"{SCORES[name]}, base model", score["placebo"], BASE))
    return interval_chart(rows, "Area under the curve (0.5 is a coin)", level=0.5)


def _estimate(name: str, area: Estimate, color: str) -> IntervalRow:
    return IntervalRow(name, area["value"], area["low"], area["high"], color)
