"""Gain against forgetting along the way from the base model to the tuned one, as a figure. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from pages.compare.tradeoff.cost_chart import bars, plane
from pages.compare.tradeoff.cost_families import hover_of_share
from pages.compare.tradeoff.cost_points import MixPoint
from pages.shared.palette import BASE, run_color

NUMBERED = 12  # shares: more labels can't be read


def mix_chart(
    shares: Sequence[MixPoint], measure: str, alpha: float, kept: Sequence[float] = ()
) -> go.Figure:
    """A line from the base through every scored share to the tuned model. `alpha`: the one that a ring
    stands around; `kept`: those that are runs of their own, filled."""
    figure = plane(shares, measure, 460)
    if not shares:
        return figure
    ink = run_color(shares[0].number)
    x, y = [0.0, *(p.cost["value"] for p in shares)], [0.0, *(p.gain["value"] for p in shares)]
    line = {"color": ink, "width": 1.6, "dash": "solid" if len(shares) > 1 else "dot"}  # dotted: not scored
    figure.add_trace(
        go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False, name="Way")
    )
    bars(figure, shares)
    _marks(figure, shares, measure, ink, kept)
    ringed = [p for p in shares if p.alpha == alpha]
    if ringed:
        ring = {"symbol": "circle-open", "size": 26, "color": ink, "line": {"width": 3}}
        at = {"x": [ringed[0].cost["value"]], "y": [ringed[0].gain["value"]]}
        figure.add_trace(
            go.Scatter(**at, mode="markers", marker=ring, hoverinfo="skip", showlegend=False, name="Chosen")
        )
    return figure


def _marks(
    figure: go.Figure, shares: Sequence[MixPoint], measure: str, ink: str, kept: Sequence[float]
) -> None:
    numbered = len(shares) <= NUMBERED
    farthest = max(shares, key=lambda point: point.cost["value"])
    whole = [p.alpha in (1.0, *kept) for p in shares]
    symbols = [
        "circle" if p.alpha == 1 else "diamond" if full else "diamond-open"
        for p, full in zip(shares, whole, strict=True)
    ]
    figure.add_trace(
        go.Scatter(
            x=[p.cost["value"] for p in shares],
            y=[p.gain["value"] for p in shares],
            mode="markers+text" if numbered else "markers",
            text=[f"α {p.alpha:g}" for p in shares] if numbered else None,
            # the last point stands at the right edge, where a name on its right would be cut
            textposition=["bottom right" if p is not farthest else "bottom left" for p in shares],
            textfont={"size": 12, "color": BASE},
            marker={"size": 12, "color": ink, "symbol": symbols, "line": {"width": 2, "color": ink}},
            customdata=[[p.alpha] for p in shares],
            hovertext=[hover_of_share(p, measure) for p in shares],
            hovertemplate="%{hovertext}<extra></extra>",
            showlegend=False,
            name="Shares",
            unselected={"marker": {"opacity": 1}},
        )
    )
