"""Losses with their gap, GL and membership as data: what is drawn, where, in which colour."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pytest

from engine.evaluation.training_curve.run_curve import Validation
from pages.runs import overfitting
from pages.shared import display
from pages.shared.palette import BAD, BASE, TRAIN, VALIDATION
from store.evaluation.verdict_schemas import Overfitting, Stage
from tests.pages.seeds.seed_evidence import membership
from tests.unit.verdict_inputs import assess

STEPS = (0, 10, 20, 30, 40)
VALIDATIONS = (2.0, 1.5, 1.2, 1.3, 1.5)
TRAINED = (2.0, 1.3, 0.9, 0.5, 0.2)


def curve(steps: Any, values: Any) -> pa.Table:
    n = len(steps)
    return pa.table(
        {
            "step": pa.array(list(steps), pa.int64()), "value": pa.array(list(values), pa.float64()),
            "count": pa.array([1] * n, pa.int64()), "nonfinite": pa.array([0] * n, pa.int64()),
        }
    )  # fmt: skip


def rows(losses: Any, first: int) -> list[Validation]:
    noise = np.random.default_rng(0).normal(0, 0.05, 100)
    row_ids, tokens = np.arange(100) + first, np.full(100, 20)
    return [
        Validation(step=step, row_ids=row_ids, loss_sums=20 * (loss + noise), tokens=tokens)
        for step, loss in zip(STEPS, losses, strict=True)
    ]


@pytest.fixture(scope="module")
def shape() -> Overfitting:
    training = [(step, 2 - 0.04 * step) for step in range(1, 41)]
    return assess(rows(VALIDATIONS, 0), training, train_probe=rows(TRAINED, 500))


def traces(figure: go.Figure) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def drawn(shape: Overfitting | None, seen: pa.Table) -> go.Figure:
    return overfitting.plot_gap(seen, curve(STEPS, VALIDATIONS), shape, "Loss")


def test_both_losses_and_the_ribbon_between_them(shape: Overfitting) -> None:
    by_name = traces(drawn(shape, curve(STEPS[1:4], TRAINED[1:4])))
    assert (by_name["Training rows"].line.color, by_name["Validation rows"].line.color) == (TRAIN, VALIDATION)
    assert list(by_name["Training rows"].x) == list(STEPS)  # what was logged, and both ends by the verdict
    assert list(by_name["Gap"].x) == [*STEPS, *STEPS[::-1]]
    assert list(by_name["Gap"].y[:5]) == list(VALIDATIONS)
    assert by_name["Best step"].x == (20,)


def test_the_ribbon_lies_between_lines_of_different_steps() -> None:
    """A validation between two probes bends the upper edge, as it bends the line."""
    by_name = traces(drawn(None, curve((0, 40), (2.0, 0.4))))
    assert list(by_name["Gap"].x[:5]) == list(STEPS)
    assert list(by_name["Gap"].y[:5]) == list(VALIDATIONS)
    assert list(by_name["Gap"].y[5:]) == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])


def test_gaps_have_intervals_in_the_colour_of_their_level(shape: Overfitting) -> None:
    by_name = traces(drawn(shape, curve([], [])))
    levels = {point.level for point in shape.gap}
    assert {f"Gap, {level}" for level in levels} <= set(by_name)
    red = by_name["Gap, red"]
    assert (red.yaxis, red.marker.color) == ("y2", BAD)
    last = shape.gap[-1].gap
    assert red.y[-1] == last.value
    assert red.error_y.array[-1] == pytest.approx(last.high - last.value)
    assert red.error_y.arrayminus[-1] == pytest.approx(last.value - last.low)


def test_gl_is_that_of_the_curve(shape: Overfitting) -> None:
    bars = traces(drawn(shape, curve([], [])))["GL"]
    assert list(bars.y) == pytest.approx([0, 0, 0, 100 * (1.3 / 1.2 - 1), 25.0])
    assert bars.marker.color == (VALIDATION, VALIDATION, VALIDATION, BAD, BAD)
    assert bars.yaxis == "y3"


def test_while_it_trains_there_is_a_ribbon_and_no_plot_of_gaps() -> None:
    figure = drawn(None, curve(STEPS[:3], TRAINED[:3]))
    by_name = traces(figure)
    assert list(by_name["Gap"].x) == [0, 10, 20, 20, 10, 0]
    assert not any(name.startswith("Gap, ") for name in by_name)
    assert "yaxis2" not in figure.layout.to_plotly_json()
    alone = traces(overfitting.plot_gap(curve([], []), curve([0], [2.0]), None, "Loss"))
    assert "Gap" not in alone
    assert "Best step" not in alone  # step 0 is the base model


def test_steps_that_went_wrong_are_shaded(shape: Overfitting) -> None:
    for state, since, last, end in (("overfits", 20, 30, 30), ("diverged", 25, 20, 40)):
        figure = drawn(replace(shape, state=state, since_step=since, last_step=last), curve([], []))
        shade = figure.layout.shapes[0]
        assert (shade.x0, shade.x1) == (since, end)
        assert state in [annotation.text for annotation in figure.layout.annotations]


def test_areas_stand_against_a_coin_with_the_base_model_beside_each() -> None:
    evidence = membership(0.3)
    figure = overfitting.plot_membership(evidence)
    names = list(figure.layout.yaxis.ticktext)
    assert names == ["Loss", "Loss, base model", "Loss beyond the base's", "Min-K%", "Min-K%, base model"]
    assert figure.data[1].marker.color == BASE
    assert figure.data[2].marker.color == BAD
    assert figure.data[0].x[0] == evidence.scores["loss"].auc.value
    assert figure.layout.shapes[0].x0 == 0.5


def test_what_so_few_rows_cannot_resolve_is_said() -> None:
    few = overfitting._describe_membership_basis(membership(0.3, rows=40))
    assert "over 40 training and 40 held-out rows" in few
    assert "to resolve false alarm rates below 2.5%" in few
    assert "resolve" not in overfitting._describe_membership_basis(membership(0.3))


def test_every_stage_has_a_name_and_colour() -> None:
    assert set(display.STAGES) == set(get_args(Stage))
