"""What belongs to a run on the plot of gain against forgetting: the runs that change it, and the models
between it and its base that were scored without training. Pure: points in, traces out.

A child hangs on its parent by a dotted line with an arrow; a share of the way lies on a thin line from its
run to the base model. Each kind is one trace, however many runs there are.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from pages.compare.tradeoff.cost_points import MixPoint, Plotted, Point, cost_of, measure_of
from pages.shared import wording
from pages.shared.palette import BASE, run_color
from store.documents.tables.run import MeasuredShare

KINDS = {"parents": "What came from what", "mixes": "Mixes with the base"}
LINE = "rgba(127,140,146,0.9)"


def links(runs: Sequence[Point]) -> list[tuple[Point, Point]]:
    """Parent and child, where both are drawn."""
    by_id = {point.row["run_id"]: point for point in runs}
    pairs = ((by_id.get(point.row["parent"] or ""), point) for point in runs)
    return [(parent, child) for parent, child in pairs if parent is not None and parent is not child]


def mixes(runs: Sequence[Point], shares: Sequence[MeasuredShare], measure: str) -> dict[str, list[MixPoint]]:
    """Scored shares of the runs that are drawn, by run, from its own end of the way on."""
    by_id = {point.row["run_id"]: point for point in runs}
    families: dict[str, list[MixPoint]] = {}
    for row in sorted(shares, key=lambda row: -row["alpha"]):
        run, gain, cost = by_id.get(row["run_id"]), row["gain"], cost_of(row, measure)
        if run is None or cost is None or not gain or not 0 < row["alpha"] < 1:
            continue
        mix = MixPoint(row["run_id"], run.row["number"], run.row["name"], row["alpha"], gain, cost)
        families.setdefault(row["run_id"], []).append(mix)
    return families


def add_links(figure: go.Figure, runs: Sequence[Point]) -> None:
    """From each parent to its children."""
    x: list[float | None] = []
    y: list[float | None] = []
    sizes: list[int] = []
    for parent, child in links(runs):
        ends = [(p.cost["value"], p.gain["value"]) for p in (parent, child)]
        middle = tuple(sum(pair) / 2 for pair in zip(*ends, strict=True))
        for place, size in ((ends[0], 0), (middle, 13), (ends[1], 0)):
            x.append(place[0])
            y.append(place[1])
            sizes.append(size)
        x.append(None)
        y.append(None)
        sizes.append(0)
    if not x:
        return
    marker: dict[str, Any] = {"symbol": "arrow", "angleref": "previous", "size": sizes, "color": LINE}
    figure.add_trace(
        go.Scatter(
            x=x, y=y, mode="lines+markers", marker=marker, line={"color": LINE, "width": 1.3, "dash": "dot"},
            hoverinfo="skip", name="From its parent", showlegend=True,
        )
    )  # fmt: skip


def add_mixes(figure: go.Figure, runs: Sequence[Point], shares: Sequence[MeasuredShare], measure: str) -> int:
    """From each run over its shares to the base model; how many shares are drawn."""
    families = mixes(runs, shares, measure)
    if not families:
        return 0
    _add_ways(figure, runs, families)
    every = [point for points in families.values() for point in points]
    inks = [run_color(point.number) for point in every]
    figure.add_trace(
        go.Scatter(
            x=[p.cost["value"] for p in every],
            y=[p.gain["value"] for p in every],
            mode="markers",
            marker={
                "symbol": "diamond-open",
                "size": 9,
                "color": inks,
                "line": {"width": 1.6, "color": inks},
            },
            customdata=[[p.run_id] for p in every],
            hovertext=[hover_of_share(p, measure) for p in every],
            hovertemplate="%{hovertext}<extra></extra>",
            name="Mixes",
            showlegend=False,
            unselected={"marker": {"opacity": 1}},
        )
    )
    mark = {"symbol": "diamond-open", "size": 9, "color": BASE, "line": {"width": 1.6, "color": BASE}}
    figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name="Mixed with the base", marker=mark))
    return len(every)


def _add_ways(figure: go.Figure, runs: Sequence[Point], families: Mapping[str, list[MixPoint]]) -> None:
    """The thin lines on which the shares lie."""
    by_id: Mapping[str, Point] = {point.row["run_id"]: point for point in runs}
    x: list[float | None] = []
    y: list[float | None] = []
    for run_id, points in families.items():
        way: list[Plotted] = [by_id[run_id], *points]
        x += [*(p.cost["value"] for p in way), 0.0, None]
        y += [*(p.gain["value"] for p in way), 0.0, None]
    figure.add_trace(
        go.Scatter(
            x=x, y=y, mode="lines", line={"color": LINE, "width": 1}, hoverinfo="skip", showlegend=False,
            name="To the base",
        )
    )  # fmt: skip


def hover_of_share(point: MixPoint, measure: str) -> str:
    """What hovering says of a share."""
    what, alpha, cost = measure_of(measure), point.alpha, point.cost
    title = "The tuned model, α 1" if alpha == 1 else f"α {alpha:g}"
    return "<br>".join(
        [
            f"<b>{title}</b> of {html.escape(point.label)}",
            f"Gain {wording.estimate(dict(point.gain))} nats a token, n {point.gain['n']:,}",
            f"{html.escape(what.title)} {wording.estimate(dict(cost))} {what.unit}, n {cost['n']:,}",
        ]
    )
