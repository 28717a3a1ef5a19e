"""Gain against forgetting of many runs: what the store tells, which runs belong together, what is drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pages.comparison import tradeoff, tradeoff_chart, tradeoff_points
from pages.comparison.tradeoff_points import MeasuredItems, RunPairs
from pages.shared.palette import BASE, RUNS
from store.core.figure_schemas import Estimate, Gain
from store.evaluation.forgetting_schemas import (
    ChoiceForgetting,
    ColourLimits,
    Divergence,
    Forgetting,
    TextForgetting,
)
from store.evaluation.verdict_schemas import Verdict
from store.runs import run_outcomes, runs
from store.runs.schemas import RunCosts
from tests.unit.store_samples import add_job, new_store, row_of


def estimate(value: float, half: float = 0.02, n: int = 100) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=n)


def gained(value: float, unit: str = "nats a token") -> Gain:
    return row_of(Gain, **vars(estimate(value)), unit=unit)


def row(number: int, gain: float, cost: float, **more: Any) -> RunCosts:
    fields = {
        "method": "lora", "model": "m", "dataset_id": "d1", "dataset_name": "Sums", "task": "sft",
        "learning_rate": 1e-4 * number, "num_train_epochs": 2.0, "init_from": "", "parent": "",
        "state": "some", "gain": gained(gain), "prose": estimate(cost),
    }  # fmt: skip
    return row_of(RunCosts, run_id=f"r{number}", number=number, name=f"Run <{number}>", **{**fields, **more})


ROWS = [row(1, 0.2, 0.0), row(2, 0.5, 0.1), row(3, 0.49, 0.11), row(4, 0.4, 0.4)]


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def test_the_store_picks_the_figures_out_of_verdicts(tmp_path: Path) -> None:
    _, database = new_store(tmp_path / "home")
    forgetting = row_of(
        Forgetting,
        state="some",
        texts=[
            row_of(TextForgetting, probe="data/mine", change=estimate(9)),
            row_of(TextForgetting, probe="prose", change=estimate(0.1)),
        ],
        choices=[row_of(ChoiceForgetting, probe="choices", change=estimate(-0.05))],
        divergence=[row_of(Divergence, probe="own_samples")],
    )
    verdict = row_of(Verdict, gain=gained(0.5), forgetting=forgetting)
    for run_id, document in (
        ("whole", verdict),
        ("old", replace(verdict, forgetting=None)),
        ("broken", row_of(Verdict)),
    ):
        add_job(database, run_id, status="finished")
        with database.transaction() as tx:
            runs.update(tx, run_id, verdict=document)
    add_job(database, "bare", status="finished")
    add_job(database, "lives", status="training")
    costs = {r.run_id: r for r in run_outcomes.costs(database)}
    assert list(costs) == ["whole", "old", "broken", "bare"]
    whole = costs["whole"]
    assert (whole.state, whole.prose, whole.kl) == ("some", estimate(0.1), None)
    assert (whole.answers, whole.gain) == (estimate(-0.05), gained(0.5))
    assert (whole.task, whole.learning_rate, whole.init_from) == ("sft", None, "")
    for run_id in ("old", "broken", "bare"):
        cost = costs[run_id]
        assert [cost.prose, cost.answers, cost.kl, cost.state] == [None] * 4
    assert costs["broken"].gain is None
    database.close()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"task": "classification"}, "classification head"),
        ({"task": "dpo"}, "preference"),
        ({"init_from": "r1"}, "earlier run"),
        ({"gain": None}, "not a number"),
        ({"gain": gained(1, "nats a row")}, "another unit"),
        ({"prose": None}, "“Plain prose”"),
        ({"prose": row_of(Estimate, value="NaN", n=3)}, "“Plain prose”"),
    ],
)
def test_runs_whose_axes_mean_something_else_are_counted(change: dict[str, Any], word: str) -> None:
    plotted, reasons = tradeoff_points.split_plottable([*ROWS, replace(row(9, 0.1, 0.1), **change)], "prose")
    assert [r.run_id for r in plotted] == ["r1", "r2", "r3", "r4"]
    sentence = tradeoff_points.describe_excluded_runs(len(plotted), 5, reasons)
    assert sentence.startswith("4 of 5 finished runs. Left out: 1 run ")
    assert word in sentence


def test_a_fall_of_accuracy_is_a_cost_with_its_ends_turned_round() -> None:
    asked = row(1, 0.2, 0.0, answers=Estimate(value=-0.1, low=-0.14, high=-0.02, n=640))
    cost = Estimate(value=10, low=2, high=pytest.approx(14), n=640)
    assert tradeoff_points.get_cost(asked, "answers") == cost
    assert tradeoff_points.get_color_limits("answers") == ColourLimits(amber=5, red=15)
    assert tradeoff_points.get_color_limits("kl") is None
    assert tradeoff_points.build_points([asked], "answers")[0].state == "some"


def test_places_and_the_run_that_costs_nothing_that_matters() -> None:
    points = tradeoff_points.build_points(ROWS, "prose")
    assert [p.status for p in points] == ["front", "front", "alike", "dominated"]
    assert points[3].behind == ("#2 Run <2>",)
    assert [p.state for p in points] == ["none", "some", "some", "much"]
    best = tradeoff_points.find_cheapest(points)
    assert best is not None
    assert best.row.run_id == "r1"
    assert tradeoff_points.find_cheapest(points[1:]) is None
    equal = tradeoff_points.build_points([row(6, 0.2, 0.02), row(7, 0.2, 0.0), row(8, 0.2, 0.01)], "prose")
    assert tradeoff_points.find_cheapest(equal) == equal[1]  # of equal gains the one that cost least
    other = tradeoff_points.build_points([*ROWS, row(5, 0.1, 0.3, dataset_id="d2")], "prose")
    assert other[4].status == "front"  # of its own data set


def test_the_plot_has_a_step_line_intervals_bands_and_the_base_model() -> None:
    drawn = traces(
        figure := tradeoff_chart.plot_tradeoff(
            tradeoff_points.build_points(ROWS, "prose"), "prose", "run", "r2"
        )
    )
    assert drawn["Front"].line.shape == "hv"
    assert list(drawn["Front"].x[:2]) == [0.0, 0.1]
    assert list(drawn["Front"].y) == [0.2, 0.5, 0.5]
    assert drawn["Front"].x[2] == figure.layout.xaxis.range[1]
    assert list(drawn["Intervals"].error_x.array) == pytest.approx([0.02] * 4)
    assert list(drawn["Intervals"].error_y.arrayminus) == pytest.approx([0.02] * 4)
    assert list(drawn["Runs"].marker.color) == list(RUNS[:4])
    assert list(drawn["Runs"].text) == ["#1", "#2", "#3", "#4"]
    assert drawn["Runs"].marker.symbol[2] == "circle-open"
    assert drawn["Runs"].marker.opacity[3] < 1
    assert [tuple(d) for d in drawn["Runs"].customdata] == [("r1",), ("r2",), ("r3",), ("r4",)]
    assert "Run &lt;2&gt;" in drawn["Runs"].hovertext[1]
    assert "learning rate 0.0002" in drawn["Runs"].hovertext[1]
    assert (drawn["Selected"].x, drawn["Selected"].marker.color) == ((0.1,), RUNS[1])
    assert (drawn["Base model"].x, drawn["Base model"].y, drawn["Base model"].marker.color) == (
        (0,),
        (0,),
        BASE,
    )
    bands = [(shape.x0, shape.x1) for shape in figure.layout.shapes if shape.type == "rect"]
    assert bands == [(0.05, 0.2), (0.2, figure.layout.xaxis.range[1])]


def test_numbers_at_the_right_edge_stand_left_of_their_point() -> None:
    points = tradeoff_points.build_points(
        [row(i, 0.2, cost) for i, cost in enumerate((0.0, 0.2, 0.4), 1)], "prose"
    )
    drawn = traces(tradeoff_chart.plot_tradeoff(points, "prose", "run"))["Runs"]
    assert list(drawn.textposition) == ["top right", "top right", "top left"]


def test_colours_by_rate_and_method_and_sizes_by_distance() -> None:
    rows = [
        row(1, 0.2, 0.0, kl=estimate(0.1)),
        row(2, 0.5, 0.1, kl=estimate(0.4), method="full"),
        row(3, 0.1, 0.1),
    ]
    points = tradeoff_points.build_points(rows, "prose")
    drawn = traces(tradeoff_chart.plot_tradeoff(points, "prose", "rate"))["Runs"].marker
    assert list(drawn.color) == pytest.approx([-4.0, -3.69897, -3.5228787])
    assert list(drawn.colorbar.ticktext) == ["1e-4", "2e-4", "3e-4"]
    assert drawn.size[2] < drawn.size[0] < drawn.size[1] == tradeoff_chart.MARKER_SIZES[1]
    single = traces(tradeoff_chart.plot_tradeoff(points[:1], "prose", "rate"))["Runs"].marker
    assert single.color == (RUNS[0],)  # one rate is no scale
    figure = tradeoff_chart.plot_tradeoff(points, "prose", "method")
    assert {"LoRA", "Full fine-tuning"} <= set(traces(figure))
    assert len(set(traces(figure)["Runs"].marker.color)) == 2


def test_many_runs_have_no_numbers_and_intervals_on_the_front_alone() -> None:
    many = [row(i, 0.5 + 0.001 * (i % 7), 0.1 + 0.002 * i) for i in range(1, 200)]
    drawn = traces(
        tradeoff_chart.plot_tradeoff(points := tradeoff_points.build_points(many, "prose"), "prose", "rate")
    )
    assert drawn["Runs"].text is None
    assert len(drawn["Runs"].x) == 199
    assert len(drawn["Intervals"].x) == sum(p.status == "front" for p in points) < 199
    json.dumps([p.behind for p in points])


def test_one_run_without_intervals_is_drawn() -> None:
    single = row(1, 0.2, 0.01)
    single.gain = replace(gained(0.2), low=None, high=None)
    figure = tradeoff_chart.plot_tradeoff(tradeoff_points.build_points([single], "prose"), "prose", "rate")
    assert len(traces(figure)["Intervals"].x) == 0
    assert "(no interval)" in traces(figure)["Runs"].hovertext[0]


def test_methods_are_matched_first_then_rates() -> None:
    assert tradeoff.compare_groups(ROWS, "prose") == ("", [])
    both = [*ROWS[:2], row(11, 0.2, 0.3, method="full"), row(12, 0.5, 0.5, method="full")]
    kind, comparisons = tradeoff.compare_groups(both, "prose")
    assert kind == "method"
    assert comparisons[0]["sentence"].startswith(
        "LoRA forgets less than Full fine-tuning at every common gain"
    )
    rates = [
        row(i, 0.2 + 0.1 * i, 0.1 * i, learning_rate=rate) for i, rate in enumerate([1e-4, 1e-4, 2e-4, 2e-4])
    ]
    kind, comparisons = tradeoff.compare_groups(rates, "prose")
    assert kind == "learning rate"
    assert {comparisons[0]["first"], comparisons[0]["second"]} == {
        "learning rate 0.0001",
        "learning rate 0.0002",
    }


def test_pairs_of_questions_are_in_points_as_the_plot_is() -> None:
    """Of 100 questions the first run has 80 right, the second these and ten more."""
    pairs = RunPairs([row(number, 0.2, 0.1, answers=estimate(-0.1)) for number in (1, 2)], "answers")
    right = (np.arange(100) < 80, np.arange(100) < 90)
    pairs.probed = {
        f"r{number}": MeasuredItems(np.arange(100), np.ones(100), hits.astype(float))
        for number, hits in zip((1, 2), right, strict=True)
    }
    apart = pairs("r1", "r2", "forgetting")
    assert apart is not None
    assert (apart.value, apart.n) == (pytest.approx(10.0), 100)
    assert 3 < apart.low < 10 < apart.high < 20


def test_intervals_are_in_view_where_nothing_was_forgotten() -> None:
    points = tradeoff_points.build_points(
        [row(number, 0.2, 0.0, prose=estimate(0.0, 9.0)) for number in (1, 2)], "prose"
    )
    left, right = tradeoff_chart.compute_axis_range(points, "cost")
    assert left < -9 < 9 < right


def test_the_axis_of_forgetting_reaches_to_where_it_matters() -> None:
    small = [row(number, 0.2, 0.0, prose=estimate(0.004 * number, 0.01)) for number in (1, 2)]
    points = tradeoff_points.build_points(small, "prose")
    left, right = tradeoff_chart.compute_cost_range(points, "prose")
    amber = tradeoff_points.get_color_limits("prose").amber
    assert left <= -amber
    assert right > amber
    layout = tradeoff_chart.build_axes(points, "prose").layout
    assert tuple(layout.xaxis.range) == (left, right)
    assert any("forgot some" in note.text for note in layout.annotations)
    wide = tradeoff_points.build_points([row(1, 0.2, 0.9)], "prose")
    assert tradeoff_chart.compute_cost_range(wide, "prose") == tradeoff_chart.compute_axis_range(wide, "cost")
