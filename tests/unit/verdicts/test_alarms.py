"""What a run is warned of, at which step, and that a run that is fine is hardly ever warned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from engine.evaluation.training_curve import run_curve
from engine.evaluation.training_curve.run_curve import LossCurves, MetricCurve, Validation
from engine.evaluation.verdicts import live_alarms
from store.core.figure_schemas import Estimate
from store.evaluation.forgetting_schemas import Forgetting, TextForgetting
from store.evaluation.verdict_schemas import Overfitting, TrainingStop, Verdict
from store.jobs.schemas import ValidationSums
from store.runs.run_outcomes import KINDS
from tests.unit.store_samples import row_of

ROWS, TOKENS = 120, 20


def validations(levels: list[float], noise: float = 0.1, seed: int = 0) -> list[Validation]:
    """One at each tenth step, of rows whose loss a token lies around the level, with noise of its own."""
    random = np.random.default_rng(seed)
    rows = random.normal(0, 0.5, ROWS)
    return [
        Validation(
            step=10 * (i + 1),
            row_ids=np.arange(ROWS),
            loss_sums=TOKENS * (level + rows + random.normal(0, noise, ROWS)),
            tokens=np.full(ROWS, TOKENS),
        )
        for i, level in enumerate(levels)
    ]


def falling(steps: int) -> list[tuple[int, float]]:
    return [(step, 2 - 0.01 * step) for step in range(1, steps + 1)]


def overfits(
    every: list[Validation],
    curve: list[tuple[int, float]],
    *,
    metric: tuple[str, Any] = ("", ()),
    **asked: Any,
) -> list[live_alarms.Alarm]:
    course = LossCurves(validations=every, train_curve=curve, metric=MetricCurve(*metric))
    return live_alarms.check_overfitting(course, **asked)


def kinds(raised: list[live_alarms.Alarm]) -> list[tuple[str, int]]:
    return [(alarm.kind, alarm.step) for alarm in raised]


def test_a_rise_is_dated_to_where_it_began() -> None:
    raised = overfits(validations([2.0, 1.5, 1.7, 1.9]), falling(40), unit="nats a token", looks=10)
    assert kinds(raised) == [("overfitting", 30)]
    assert "above that of step 20 (95% over 10 validations, 120 rows)" in raised[0].message
    assert not overfits(validations([2.0, 1.5, 1.4]), falling(30), unit="", looks=10)
    unstable = [(step, 1.0 + step / 10) for step in range(1, 41)]  # training loss rises too
    assert not overfits(validations([2.0, 1.5, 1.7, 1.9]), unstable, unit="", looks=10)


def test_a_run_that_is_fine_is_hardly_ever_warned() -> None:
    """Flat at its end and noisy, looked at ten times: one in twenty at most."""
    warned = 0
    for seed in range(60):
        every = validations([2.0, *[1.5] * 9], noise=0.4, seed=seed)
        warned += any(overfits(every[:last], falling(100), unit="", looks=10) for last in range(2, 11))
    assert warned <= 3


def test_metric_and_loss_part_while_it_trains() -> None:
    every = validations([2.0, 1.5, 1.7, 1.9])
    right = [0.2, 0.4, 0.6, 0.9]
    metric = [
        run_curve.build_metric_values(
            "label", v.step, v.row_ids, (np.arange(ROWS) / ROWS < r) * 3, [3] * ROWS
        )
        for v, r in zip(every, right, strict=True)
    ]
    raised = overfits(every, falling(40), unit="nats a token", looks=10, metric=("label accuracy", metric))
    assert kinds(raised) == [("overfitting", 30), ("parting", 40)]
    assert "label accuracy rose by 0.5" in raised[1].message
    assert kinds(overfits(every, falling(40), unit="", looks=10)) == [("overfitting", 30)]


def test_forgetting_passes_a_threshold_only_where_that_is_sure() -> None:
    random = np.random.default_rng(0)
    tokens = np.full(8, 300)
    base = 300 * random.normal(3, 0.3, 8)

    def kinds_at(rise: float, noise: float = 0.02) -> list[tuple[str, int]]:
        tuned = base + 300 * (rise + random.normal(0, noise, 8))
        return kinds(live_alarms.check_forgetting(40, base, tuned, tokens, looks=10))

    assert kinds_at(0.0) == []
    assert kinds_at(0.04) == []
    assert kinds_at(0.15) == [("forgetting_amber", 40)]
    assert kinds_at(0.5) == [("forgetting_red", 40), ("forgetting_amber", 40)]
    assert kinds_at(0.3, noise=0.5) == []  # not from eight passages
    assert live_alarms.check_forgetting(40, base, base * np.nan, tokens, looks=10) == []


def test_a_verdict_says_what_was_not_said_before() -> None:
    change = Estimate(value=0.3, low=0.25, high=0.35, n=67)
    texts = [row_of(TextForgetting, probe=name, change=change) for name in ("prose", "data/x")]
    verdict = row_of(
        Verdict,
        stopped=TrainingStop(reason="epochs", step=90, restored_step=60),
        overfitting=row_of(
            Overfitting, state="overfits", since_step=70, last_step=90, sentence="It overfits: …",
            stage="memorising", stage_sentence="It memorises.",
        ),
        forgetting=row_of(Forgetting, texts=texts),
    )  # fmt: skip
    raised = live_alarms.list_verdict_alarms(verdict)
    assert kinds(raised) == [
        ("overfitting", 70),
        ("memorising", 90),
        ("forgetting_amber", 60),
        ("forgetting_red", 60),
    ]
    assert {alarm.kind for alarm in raised} <= set(KINDS)
    stopped = TrainingStop(reason="epochs", step=90, restored_step=None)
    assert live_alarms.list_verdict_alarms(row_of(Verdict, stopped=stopped)) == []


def test_a_course_from_sums_has_the_interval_of_its_rows() -> None:
    random = np.random.default_rng(1)
    tokens = random.integers(3, 30, 50)
    right = random.binomial(tokens, 0.6)
    sums = ValidationSums(
        step=10, n=50, x=right.sum(), w=tokens.sum(), xx=(right * right).sum(),
        xw=(right * tokens).sum(), ww=(tokens * tokens).sum(),
    )  # fmt: skip
    (point,) = run_curve.compute_metric_curve("tokens", [sums])
    value, n = right.sum() / tokens.sum(), 50
    error = np.sqrt(n / (n - 1) * np.square(right - value * tokens).sum()) / tokens.sum()
    half = stats.t.ppf(0.975, tokens.sum() ** 2 / np.square(tokens).sum() - 1) * error
    assert point.n == 50
    assert (point.low, point.value, point.high) == pytest.approx((value - half, value, value + half))
    four = replace(sums, n=4, x=20, w=40, xx=120, xw=200, ww=400)
    assert run_curve.compute_metric_curve("tokens", [four])[0].low is None
    certain = run_curve.compute_metric_curve("label", [replace(sums, x=50, w=50)])
    assert certain[0].low < 1  # Wilson: never certain


def test_rows_that_all_agree_make_nothing_certain() -> None:
    ones = ValidationSums(step=1, n=16, x=0, w=80, xx=0, xw=0, ww=400)
    (none_right,) = run_curve.compute_metric_curve("tokens", [ones])
    assert (none_right.value, none_right.low) == (0, 0)
    assert none_right.high == pytest.approx(1.96**2 / (16 + 1.96**2), abs=1e-3)
    (alike,) = run_curve.compute_metric_curve("answers", [replace(ones, x=16, w=16, xx=16, xw=16, ww=16)])
    assert (alike.value, alike.low, alike.high) == (1, None, None)
