"""Overfitting: false findings where there is none, and true ones where the loss rises.

Flat courses whose loss varies from step to step by a part common to all rows, which no interval over rows
sees.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench.made.shapes.courses import COURSES, LIVE
from bench.truths import Rate
from engine.evaluation.training_curve import advice, overfitting
from engine.evaluation.training_curve.run_curve import LossCurves, MetricCurve, MetricValues, Validation
from engine.evaluation.training_curve.stages import find_metric_divergence
from engine.evaluation.verdicts import live_alarms
from store.evaluation.verdict_schemas import TrainingStop

ROWS = 100
EPOCHS = TrainingStop(reason="epochs", step=400, restored_step=None)
TRAINING = [(step, 1 + 0.01 * (step % 7)) for step in range(400)]  # flat, so nothing is unstable


def course(levels: NDArray[np.float64], noise: float, rng: np.random.Generator) -> list[Validation]:
    """Draw validations of the same rows at these mean losses, each with relative noise `noise`, and each row
    with its own noise.
    """
    tokens = rng.integers(10, 60, ROWS).astype(float)
    rows = rng.normal(0, 0.5, ROWS)
    return [
        Validation(
            step=10 * place,
            row_ids=np.arange(ROWS),
            loss_sums=tokens * (level * (1 + noise * rng.normal()) + rows + rng.normal(0, 0.02, ROWS)),
            tokens=tokens,
        )
        for place, level in enumerate(levels)
    ]


def flat(validations: int) -> NDArray[np.float64]:
    """Return a constant course."""
    return np.full(validations, 2.0)


def turning(validations: int, rise: float) -> NDArray[np.float64]:
    """Return a course that falls to its minimum in the first two fifths and then rises by the share `rise` of
    it.
    """
    steps = np.arange(validations)
    turn = 0.4 * validations
    up = np.clip((steps - turn) / (validations - 1 - turn), 0, None)
    return 2 + 1.5 * np.exp(-10 * steps / validations) + 2 * rise * up


def settling(validations: int) -> NDArray[np.float64]:
    """Return a course that falls in the first third and then stays constant."""
    return 2 + 1.5 * np.exp(-15 * np.arange(validations) / validations)


def _still_learning(levels: NDArray[np.float64], noise: float, rng: np.random.Generator) -> bool:
    """Whether the stage, or the advice to train for longer, indicates that the model is still learning."""
    every = course(levels, noise, rng)
    longer = advice.is_still_improving(every, EPOCHS, 0.005)
    return (
        longer
        or overfitting.assess_overfitting(LossCurves(validations=every, train_curve=TRAINING)).stage
        == "learning"
    )


def _called(levels: NDArray[np.float64], noise: float, rng: np.random.Generator) -> bool:
    return (
        overfitting.assess_overfitting(
            LossCurves(validations=course(levels, noise, rng), train_curve=TRAINING)
        ).state
        == "overfits"
    )


def _warned(levels: NDArray[np.float64], noise: float, rng: np.random.Generator) -> bool:
    every = course(levels, noise, rng)
    return any(
        live_alarms.check_overfitting(
            LossCurves(validations=every[:seen], train_curve=TRAINING), unit="nats a token", looks=len(every)
        )
        for seen in range(2, len(every) + 1)
    )


def drawn(shape: str, evaluations: int, rng: np.random.Generator) -> list[Validation]:
    """Draw a course of `bench.made.shapes.courses`."""
    made = COURSES[shape](rng, evaluations, ROWS)
    return [
        Validation(
            step=int(step), row_ids=np.arange(ROWS), loss_sums=losses * made.tokens, tokens=made.tokens
        )
        for step, losses in zip(made.steps, made.losses, strict=True)
    ]


def overfits(shape: str, evaluations: int, rng: np.random.Generator) -> bool:
    """Whether the verdict reports overfitting."""
    judged = overfitting.assess_overfitting(
        LossCurves(validations=drawn(shape, evaluations, rng), train_curve=TRAINING)
    )
    return judged.state == "overfits"


def is_warned_of(shape: str, evaluations: int, rng: np.random.Generator) -> bool:
    """Whether any validation during training reports overfitting."""
    every = drawn(shape, evaluations, rng)
    return any(
        overfitting.find_onset(every[:seen], TRAINING, evaluations) for seen in range(2, evaluations + 1)
    )


def parts(shape: str, evaluations: int, live: bool, rng: np.random.Generator) -> bool:
    """Whether a metric that is constant except for 1.5 points of noise is reported to diverge from a loss
    that falls to the end: once, or at any validation (`live`).
    """
    accuracy = LIVE[shape](rng, evaluations, ROWS, 0.0).first
    ease = rng.random(ROWS)
    values = [
        MetricValues(
            step=10 * place,
            row_ids=np.arange(ROWS),
            values=(np.argsort(np.argsort(ease + rng.normal(0, 0.1, ROWS))) < share * ROWS).astype(float),
            weights=np.ones(ROWS),
        )
        for place, share in enumerate(accuracy)
    ]
    seen = range(2, evaluations + 1) if live else [evaluations]
    return any(
        find_metric_divergence(
            (last, last), MetricCurve("accuracy", values[:count]), None, evaluations if live else 1
        )
        for count in seen
        for last in [10 * (count - 1)]
    )


def _quiet(validations: int, noise: float) -> list[Rate]:
    where = f"{validations} validations, noise of steps {noise:.1%} of the loss"
    asked = {"called overfitting": _called, "warned of while it trains": _warned}
    return [
        Rate("overfitting", f"flat course {what}, {where}", 0.05, 0, 0.05,
             partial(happens, flat(validations), noise), 1_000)
        for what, happens in asked.items()
    ]  # fmt: skip


STILL = [shape for shape in COURSES if shape.startswith(("flat", "settled"))]
EVALUATIONS = (5, 10, 30)
RATES = [
    *(rate for validations in EVALUATIONS for rate in _quiet(validations, 0.005)),
    *_quiet(10, 0.0),
    *_quiet(10, 0.01),
    *(
        Rate("overfitting", f"{what}: {shape}, {evaluations} validations", 0.05, 0, 0.05,
             partial(happens, shape, evaluations), draws)
        for shape in STILL
        for evaluations in EVALUATIONS
        for what, happens, draws in (
            ("called overfitting", overfits, 1_000), ("warned of live", is_warned_of, 400),
        )
    ),
    *(
        Rate("overfitting", f"metric parts{' live' if live else ''}: {shape}, {evaluations} validations",
             0.05, 0, 0.05, partial(parts, shape, evaluations, live), 1_000)
        for shape in LIVE
        for evaluations in EVALUATIONS
        for live in (False, True)
    ),
    *(
        Rate("overfitting", f"settled course called still learning, {validations} validations, noise of steps"
             f" {noise:.1%}", 0.025, 0, 0.05, partial(_still_learning, settling(validations), noise), 1_000)
        for validations, noise in ((10, 0.005), (30, 0.005), (30, 0.01), (10, 0.0))
    ),
    Rate("overfitting", "last step falls by 5%, called still learning, 10 validations, noise of steps 0.5%",
         1, 0.8, 1, partial(_still_learning, 2 * 0.95 ** np.arange(10), 0.005), 500),
    *(
        Rate("overfitting", f"rise of {rise:.0%} {what}, {validations} validations, noise of steps 0.5%",
             1, 0.8, 1, partial(happens, turning(validations, rise), 0.005), 500)
        for what, happens, validations, rise in (
            ("called overfitting", _called, 10, 0.1), ("called overfitting", _called, 30, 0.08),
            ("called overfitting", _called, 5, 0.2), ("warned of while it trains", _warned, 10, 0.2),
            ("warned of while it trains", _warned, 30, 0.1),
        )
    ),
]  # fmt: skip
