"""Predictions against what runs measured, as charts: on the line a prediction was right. No Streamlit
here."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from engine.diagnostics.phrasing import plural
from pages.shared.palette import BASE, run_color
from pages.shared.traces import empty_figure, short
from store.catalog.methods import METHODS

# name -> (title, unit, divisor, measured, predicted, low, high)
QUANTITIES = {
    "memory": (
        *("Peak memory", "GiB", 1.0, "peak_memory_gib"),
        *("estimated_memory_gib", "estimated_memory_low_gib", "estimated_memory_high_gib"),
    ),
    "time": (
        *("Time of the run", "min", 60.0, "run_seconds"),
        *("estimated_seconds", "estimated_low_seconds", "estimated_high_seconds"),
    ),
}


def predicted_and_measured(runs: list[dict[str, Any]]) -> dict[str, tuple[go.Figure, str]]:
    """name -> chart and what it says, for memory and for time, where some run has both."""
    charts = {}
    for name, (title, unit, divisor, measured, *predicted) in QUANTITIES.items():
        comparable = [run for run in runs if run[measured] and run[predicted[0]]]
        if name == "time":  # a run that stopped early was never to take the whole time
            comparable = [run for run in comparable if run["stopped"] != "early_stopping"]
        if comparable:
            points = [
                [run[column] and run[column] / divisor for column in (measured, *predicted)]
                for run in comparable
            ]
            charts[name] = (_chart(title, unit, comparable, points), _caption(title, points))
    return charts


def _caption(title: str, points: list[list[float]]) -> str:
    """How many were within their interval."""
    ranged = [(value, low, high) for value, _, low, high in points if low and high]
    if not ranged:
        return f"{title} of {plural(len(points), 'run')}."
    inside = sum(low <= value <= high for value, low, high in ranged)
    return f"{title}: {inside} of {plural(len(ranged), 'run')} within the predicted interval."


def _chart(title: str, unit: str, runs: list[dict[str, Any]], points: list[list[float]]) -> go.Figure:
    figure = empty_figure(title, f"Measured ({unit})", 280, x_title=f"Predicted ({unit})")
    most = 1.08 * max(max(value, high or guess) for value, guess, _, high in points)
    figure.add_shape(
        type="line", x0=0, y0=0, x1=most, y1=most, line={"dash": "dash", "color": BASE, "width": 1.6}
    )
    for run, (value, guess, low, high) in zip(runs, points, strict=True):
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
