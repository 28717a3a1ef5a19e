"""Figures as data: what is drawn, in which colour, and that nothing is dropped."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pytest

from pages.shared import palette
from pages.shared.charts import (
    IntervalRow,
    LossMarks,
    plot_intervals,
    plot_line,
    plot_losses,
    smooth,
)
from store.evaluation.verdict_schemas import Overfitting
from tests.unit.store_samples import row_of


def curve(values: list[float | None], *, count: int = 1, nonfinite: dict[int, int] | None = None) -> pa.Table:
    """A table as store.jobs.metric_points.curve gives it, one bucket every 10 steps."""
    bad = nonfinite or {}
    return pa.table(
        {
            "step": pa.array([10 * i for i in range(len(values))], pa.int64()),
            "first_step": pa.array([10 * i for i in range(len(values))], pa.int64()),
            "value": pa.array(values, pa.float64()),
            "min": pa.array([None if v is None else v - 0.1 for v in values], pa.float64()),
            "max": pa.array([None if v is None else v + 0.1 for v in values], pa.float64()),
            "mean": pa.array(values, pa.float64()),
            "count": pa.array([count] * len(values), pa.int64()),
            "nonfinite": pa.array([bad.get(i, 0) for i in range(len(values))], pa.int64()),
        }
    )


def traces(figure: go.Figure) -> dict[str, go.Scatter]:
    return {trace.name: trace for trace in figure.data}


def texts(figure: go.Figure) -> list[str]:
    return [annotation.text for annotation in figure.layout.annotations]


def test_loss_chart_shows_both_curves_base_level_and_best_step() -> None:
    figure = plot_losses(
        curve([2.0, 1.5, 1.2]), curve([2.1, 1.6, 1.7]), LossMarks(base_level=2.1, best_step=10)
    )
    drawn = traces(figure)
    assert drawn["Training"].line.color == palette.TRAIN
    assert drawn["Validation"].line.color == palette.VALIDATION
    assert list(drawn["Validation"].y) == [2.1, 1.6, 1.7]
    assert (drawn["Best step"].x, drawn["Best step"].y) == ((10,), (1.6,))
    assert {"Base model 2.100", "best 1.600 at step 10"} <= set(texts(figure))
    level = figure.layout.shapes[0]
    assert (level.y0, level.line.dash, level.line.color) == (2.1, "dash", palette.BASE)


@pytest.mark.parametrize(("level", "below"), [(2.1, True), (1.1, False), (None, True)])
def test_the_best_step_is_named_away_from_the_base_models_line(level: float | None, below: bool) -> None:
    figure = plot_losses(curve([2.0, 1.5]), curve([2.1, 1.6]), LossMarks(base_level=level, best_step=10))
    (best,) = [each for each in figure.layout.annotations if each.text.startswith("best")]
    assert (best.yshift < 0) is below


def test_loss_chart_shades_where_it_overfits() -> None:
    shape = row_of(Overfitting, state="overfits", since_step=20, last_step=30)
    figure = plot_losses(curve([2, 1, 0.5]), curve([2.0, 1.0, 1.5]), LossMarks(best_step=10, shape=shape))
    shade = figure.layout.shapes[0]
    assert (shade.x0, shade.x1) == (20, 30)
    assert "overfits" in texts(figure)


def test_loss_chart_shades_where_training_diverged_to_its_last_step() -> None:
    """Though the last validation may lie before: what rose is the training loss."""
    shape = row_of(Overfitting, state="diverged", since_step=20, last_step=10)
    figure = plot_losses(curve([2, 1, 3, 4, 5]), curve([2.0, 1.0]), LossMarks(shape=shape))
    shade = figure.layout.shapes[0]
    assert (shade.x0, shade.x1) == (20, 40)
    assert "diverged" in texts(figure)
    unknown = LossMarks(shape=replace(shape, since_step=None))  # a verdict from before the step was kept
    assert not plot_losses(curve([2, 1]), curve([2.0, 1.0]), unknown).layout.shapes


def test_a_run_without_points_gives_an_empty_chart_with_axes() -> None:
    figure = plot_losses(curve([]), curve([]))
    assert figure.layout.yaxis.title.text == "Loss (nats a token)"
    assert figure.layout.xaxis.title.text == "Optimizer step"


def test_values_that_are_not_finite_are_marked_where_they_happened() -> None:
    figure = plot_losses(curve([2.0, None, 1.0], nonfinite={1: 3}), curve([2.0]))
    mark = traces(figure)["Not a finite number"]
    assert (list(mark.x), list(mark.customdata)) == ([10], [3])
    assert math.isnan(traces(figure)["Training"].y[1])
    assert not traces(figure)["Training"].connectgaps


def test_buckets_show_their_extremes_as_a_band() -> None:
    figure = plot_line(curve([1.0, 2.0], count=4), "train/grad_norm")
    band = traces(figure)["smallest to largest"]
    assert list(band.y) == [1.1, 2.1, 1.9, 0.9]
    assert band.opacity < 0.3
    assert "smallest to largest" not in traces(plot_line(curve([1.0, 2.0]), "train/grad_norm"))


def test_a_noisy_training_curve_is_averaged_and_kept() -> None:
    noisy = [2 + (-1) ** i * 0.5 for i in range(100)]
    drawn = traces(plot_losses(curve(noisy), curve([2.0])))
    assert list(drawn["Training, each step"].y) == noisy
    assert np.ptp(drawn["Training (moving average)"].y[50:]) < 0.1


def test_moving_average_is_unbiased_and_skips_gaps() -> None:
    assert smooth(np.array([3.0, 3.0, 3.0])) == pytest.approx([3, 3, 3])
    gap = smooth(np.array([3.0, np.nan, 3.0]))
    assert math.isnan(gap[1])
    assert gap[2] == pytest.approx(3)


def test_a_run_of_few_steps_has_no_half_steps() -> None:
    assert plot_line(curve([1.0, 2.0]), "train/grad_norm").layout.xaxis.dtick == 1
    assert plot_line(curve([1.0, 2.0, 3.0]), "train/grad_norm").layout.xaxis.dtick is None


def test_zoom_survives_a_refresh_and_backgrounds_are_transparent() -> None:
    for figure in (plot_losses(curve([1.0]), curve([1.0])), plot_line(curve([1.0]), "train/grad_norm")):
        assert figure.layout.uirevision == "kept"
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"


def test_intervals_are_drawn_against_zero() -> None:
    rows = [IntervalRow("first", 0.8, 0.7, 0.95, "#000"), IntervalRow("second", 0.1, None, None, "#111")]
    figure = plot_intervals(rows, "Gain")
    first, second = figure.data
    assert first.error_x.array == pytest.approx((0.15,))
    assert first.error_x.arrayminus == pytest.approx((0.1,))
    assert second.error_x.array == (0.0,)
    assert figure.layout.shapes[0].x0 == 0


def test_intervals_of_equal_or_numeric_names_keep_their_places() -> None:
    rows = [IntervalRow(name, 0.1, 0.0, 0.2, "#000") for name in ("0.001", "same", "same")]
    figure = plot_intervals(rows, "Gain")
    assert [trace.y for trace in figure.data] == [(0,), (1,), (2,)]
    assert figure.layout.yaxis.ticktext == ("0.001", "same", "same")
    assert figure.layout.yaxis.tickvals == (0, 1, 2)
    assert figure.layout.yaxis.range == (2.5, -0.5)  # the first at the top


# -- colours ----------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
PROTANOPES = [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]
DEUTERANOPES = [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]
SEEN_BY = {"most people": np.eye(3), "protanopes": PROTANOPES, "deuteranopes": DEUTERANOPES}


def lab(color: str, eyes: str) -> np.ndarray:
    """CIE Lab of a colour as these eyes see it."""
    rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.asarray(SEEN_BY[eyes]) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", SEEN_BY)
def test_runs_can_be_told_apart(eyes: str) -> None:
    """2.3 is a just noticeable difference; lines need several times that."""
    pairs = itertools.combinations(palette.RUNS, 2)
    distances = {pair: np.linalg.norm(lab(pair[0], eyes) - lab(pair[1], eyes)) for pair in pairs}
    assert min(distances.values()) > 15, min(distances, key=distances.__getitem__)
    assert np.linalg.norm(lab(palette.TRAIN, eyes) - lab(palette.VALIDATION, eyes)) > 25


def test_run_colours_are_for_good() -> None:
    assert palette.get_run_color(3) == palette.get_run_color(3 + len(palette.RUNS))
    styles = {(palette.get_run_color(n), palette.get_run_dash(n)) for n in range(1, 33)}
    assert len(styles) == 32
