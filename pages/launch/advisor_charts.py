"""Predictions against what runs measured, as charts: on the line a prediction was right. No Streamlit
here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from engine.diagnostics.phrasing import plural
from pages.shared.palette import BASE, run_color
from pages.shared.traces import empty_figure, short
from store.catalog.methods import METHODS
from store.documents.asks.advice import MeasuredRun
from store.documents.models.saved_model import STOPPED_EARLY


class PredictedRun(NamedTuple):
    """What a run measured of a quantity, and what was predicted with its interval."""

    run: MeasuredRun
    measured: float
    guess: float
    low: float | None
    high: float | None


def predicted_and_measured(runs: Sequence[MeasuredRun]) -> dict[str, tuple[go.Figure, str]]:
    """name -> chart and what it says, for memory and for time, where some run has both."""
    charts = {}
    if memory := [point for run in runs if (point := _memory(run))]:
        charts["memory"] = (_chart("Peak memory", "GiB", memory), _caption("Peak memory", memory))
    # what is predicted is the whole course
    whole = [run for run in runs if (run["course"] or 1) >= 1 and run["stopped"] not in STOPPED_EARLY]
    if times := [point for run in whole if (point := _minutes(run))]:
        charts["time"] = (_chart("Time of the run", "min", times), _caption("Time of the run", times))
    return charts


def _memory(run: MeasuredRun) -> PredictedRun | None:
    """In GiB."""
    measured, guess = run["peak_memory_gib"], run["estimated_memory_gib"]
    if not measured or not guess:
        return None
    ends = (run["estimated_memory_low_gib"], run["estimated_memory_high_gib"])
    return PredictedRun(run, measured, guess, *ends)


def _minutes(run: MeasuredRun) -> PredictedRun | None:
    measured, guess = run["run_seconds"], run["estimated_seconds"]
    if not measured or not guess:
        return None
    low, high = (end and end / 60 for end in (run["estimated_low_seconds"], run["estimated_high_seconds"]))
    return PredictedRun(run, measured / 60, guess / 60, low, high)


def _caption(title: str, points: Sequence[PredictedRun]) -> str:
    """How many were within their interval."""
    ranged = [(point.measured, point.low, point.high) for point in points if point.low and point.high]
    if not ranged:
        return f"{title} of {plural(len(points), 'run')}."
    inside = sum(low <= value <= high for value, low, high in ranged)
    return f"{title}: {inside} of {plural(len(ranged), 'run')} within the predicted interval."


def _chart(title: str, unit: str, points: Sequence[PredictedRun]) -> go.Figure:
    figure = empty_figure(title, f"Measured ({unit})", 280, x_title=f"Predicted ({unit})")
    most = 1.08 * max(max(point.measured, point.high or point.guess) for point in points)
    figure.add_shape(
        type="line", x0=0, y0=0, x1=most, y1=most, line={"dash": "dash", "color": BASE, "width": 1.6}
    )
    for run, value, guess, low, high in points:
        reach = {"array": [(high or guess) - guess], "arrayminus": [guess - (low or guess)]}
        color = run_color(run["number"])
        method = METHODS[run["method"]].title
        figure.add_trace(
            go.Scatter(
                x=[guess],
                y=[value],
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "width": 0,
                    "thickness": 2,
                    "color": color,
                    **reach,
                },
                mode="markers",
                marker={"size": 9, "color": color},
                hovertemplate=f"{short(run['name'])}, {method}<br>predicted %{{x:.2f}} {unit}, measured"
                f" %{{y:.2f}} {unit}<extra></extra>",
                showlegend=False,
            )
        )
    figure.update_layout(hovermode="closest", margin={"t": 40})
    figure.update_xaxes(range=[0, most], showgrid=True)
    figure.update_yaxes(range=[0, most])
    return figure
