"""The charts of a classifier as pure functions: what is taken for what, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from pages.shared.palette import BASE, VALIDATION
from pages.shared.traces import empty_figure, short
from store.documents.verdicts.classification import CalibrationBin

MOST = 30  # classes that a matrix shows; of more nobody can read one
SCALE = [[0.0, "rgba(15,157,143,0.04)"], [1.0, "rgba(15,157,143,1)"]]
WIDEST = 18  # letters of a class on an axis


def confusion_matrix(cells: Sequence[tuple[str, str, int]], labels: Sequence[str]) -> go.Figure:
    """Rows of each true class by what they are taken for; the shade is the share of the true class."""
    place = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), int)
    for label, predicted, count in cells:
        counts[place[label], place[predicted]] += count
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    names = [short(label, WIDEST) for label in labels]
    figure = empty_figure("", "True label", 120 + max(200, 34 * len(labels)), x_title="Predicted label")
    hover = [
        [f"{a} taken for {b}: {counts[i, j]:,} of {counts[i].sum():,} rows" for j, b in enumerate(names)]
        for i, a in enumerate(names)
    ]
    ticks = list(range(len(labels)))
    figure.add_trace(
        go.Heatmap(
            z=shares, x=ticks, y=ticks, zmin=0, zmax=1, colorscale=SCALE, showscale=False, xgap=2, ygap=2,
            text=hover, hovertemplate="%{text}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_trace(_numbers(counts, shares))
    edge = [-0.5, len(labels) - 0.5]
    figure.update_xaxes(
        tickvals=ticks, ticktext=names, range=edge, showgrid=False, tickangle=-40, side="bottom"
    )
    figure.update_yaxes(tickvals=ticks, ticktext=names, range=edge[::-1], showgrid=False)
    figure.update_layout(hovermode="closest", margin={"l": 8, "r": 8, "t": 8, "b": 8})
    return figure


def _numbers(counts: np.ndarray, shares: np.ndarray) -> go.Scatter:
    """The rows of each cell that has some, light where the cell is dark."""
    rows, columns = np.nonzero(counts)
    return go.Scatter(
        x=columns,
        y=rows,
        mode="text",
        text=[f"{counts[i, j]:,}" for i, j in zip(rows, columns, strict=True)],
        textfont={
            "size": 13 if len(counts) <= 12 else 10,
            "color": ["white" if shares[i, j] > 0.5 else BASE for i, j in zip(rows, columns, strict=True)],
        },
        hoverinfo="skip",
        showlegend=False,
    )


def reliability_chart(bins: Sequence[CalibrationBin]) -> go.Figure:
    """Share of rows right against how sure the model was, with Wilson's intervals; the dashed line is a
    model that is as often right as it is sure."""
    figure = empty_figure("", "Rows right (share)", 340, x_title="Mean probability of the predicted label")
    figure.add_trace(
        go.Scatter(
            x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dash", "color": BASE, "width": 1.5},
            name="As often right as sure", hoverinfo="skip",
        )
    )  # fmt: skip
    up = [0 if b["high"] is None else b["high"] - b["accuracy"] for b in bins]
    down = [0 if b["low"] is None else b["accuracy"] - b["low"] for b in bins]
    figure.add_trace(
        go.Scatter(
            x=[b["confidence"] for b in bins],
            y=[b["accuracy"] for b in bins],
            error_y={"type": "data", "array": up, "arrayminus": down, "symmetric": False, "width": 0,
                     "thickness": 2.5, "color": VALIDATION},
            mode="markers",
            marker={"size": 9, "color": VALIDATION},
            name="Tuned model",
            customdata=[[b["n"], b["low"], b["high"]] for b in bins],
            hovertemplate="%{y:.0%} right (%{customdata[1]:.0%} to %{customdata[2]:.0%}) at %{x:.0%} sure,"
            " n %{customdata[0]}<extra></extra>",
        )
    )  # fmt: skip
    least = min([0.95, *(b["confidence"] for b in bins)])
    figure.update_xaxes(range=[max(0, least - 0.05), 1.02], tickformat=".0%")
    figure.update_yaxes(range=[0, 1.04], tickformat=".0%")
    figure.update_layout(hovermode="closest", margin={"l": 64, "t": 30})
    return figure
