"""Parents, children and mixes on the plot of gain against forgetting, as data."""

from __future__ import annotations

import plotly.graph_objects as go

from pages.comparison import tradeoff_chart, tradeoff_points
from store.runs.schemas import MeasuredMix, RunCosts
from tests.unit.screens.test_costs import estimate, row
from tests.unit.store_samples import row_of


def points_of(*rows: RunCosts) -> list[tradeoff_points.Point]:
    return tradeoff_points.build_points(rows, "prose")


def share(run_id: str, alpha: float, gain: float, cost: float | None) -> MeasuredMix:
    prose = None if cost is None else estimate(cost)
    return row_of(MeasuredMix, run_id=run_id, alpha=alpha, gain=estimate(gain), prose=prose)


def test_a_line_goes_from_parent_to_child_where_both_are_drawn() -> None:
    points = points_of(
        row(1, 0.5, 0.3), row(2, 0.4, 0.1, parent="r1"), row(3, 0.4, 0.2, parent="elsewhere"),
        row(4, 0.3, 0.1, parent="r4"),
    )  # fmt: skip
    assert [(a.row.run_id, b.row.run_id) for a, b in tradeoff_chart.find_parent_links(points)] == [
        ("r1", "r2")
    ]
    figure = go.Figure()
    tradeoff_chart.add_links(figure, points)
    assert figure.data[0].x == (0.3, 0.2, 0.1, None)
    assert figure.data[0].marker.size == (0, 13, 0, 0)


def test_shares_lie_between_their_run_and_the_base() -> None:
    points = points_of(row(1, 0.5, 0.3), row(2, 0.4, 0.1))
    shares = [
        share("r1", 0.0, 0, 0), share("r1", 0.2, 0.2, 0.05), share("r1", 0.6, 0.4, 0.2),
        share("r1", 1.0, 0.5, 0.3),
        share("r2", 0.5, 0.3, None), share("gone", 0.5, 0.1, 0.1),
    ]  # fmt: skip
    figure = go.Figure()
    assert tradeoff_chart.add_interpolations(figure, points, shares, "prose") == 2
    drawn = {trace.name: trace for trace in figure.data}
    assert drawn["To the base"].x == (0.3, 0.2, 0.05, 0.0, None)
    assert drawn["Interpolations"].y == (0.4, 0.2)
    assert "α 0.6" in drawn["Interpolations"].hovertext[0]
    assert "&lt;1&gt;" in drawn["Interpolations"].hovertext[0]  # a name is no markup
    assert "n 100" in drawn["Interpolations"].hovertext[0]


def test_a_thousand_families_are_a_few_traces() -> None:
    points = points_of(*(row(i, 0.5 + i / 9e3, 0.3, parent=f"r{i - 1}") for i in range(1, 1001)))
    shares = [share(f"r{i}", a, a / 2, a / 4) for i in range(1, 1001) for a in (0.2, 0.4, 0.6, 0.8)]
    figure = go.Figure()
    tradeoff_chart.add_links(figure, points)
    assert tradeoff_chart.add_interpolations(figure, points, shares, "prose") == 4000
    assert len(figure.data) == 4
    assert len(figure.data[0].x) == 999 * 4
