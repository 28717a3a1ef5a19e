"""Is a course that does not overfit called so, and a rise that is one seen?

Flat courses whose loss moves from step to step by a share that all rows share, which no interval over rows
sees.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench.truths import Rate
from engine.diagnostics.course import advice, overfitting
from engine.diagnostics.course.run_course import LossCourse
from engine.diagnostics.course.validation import Validation
from engine.diagnostics.verdicts import live_alarms

ROWS = 100
TRAINING = [(step, 1 + 0.01 * (step % 7)) for step in range(400)]  # goes nowhere: nothing is unstable


def course(levels: NDArray[np.float64], noise: float, rng: np.random.Generator) -> list[Validation]:
    """Validations of the same rows at these mean losses, each moved by `noise` of itself, each row by its
    own."""
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
    """A course that goes nowhere."""
    return np.full(validations, 2.0)


def turning(validations: int, rise: float) -> NDArray[np.float64]:
    """Falls to its lowest in the first two fifths, and rises by that share of it after."""
    steps = np.arange(validations)
    turn = 0.4 * validations
    up = np.clip((steps - turn) / (validations - 1 - turn), 0, None)
    return 2 + 1.5 * np.exp(-10 * steps / validations) + 2 * rise * up


def settling(validations: int) -> NDArray[np.float64]:
    """Falls in the first third, and not after it."""
    return 2 + 1.5 * np.exp(-15 * np.arange(validations) / validations)


def _still_learning(levels: NDArray[np.float64], noise: float, rng: np.random.Generator) -> bool:
    """By the stage, or by the advice to train for longer."""
    every = course(levels, noise, rng)
    longer = advice.still_improving(every, {"reason": "epochs"}, 0.005)
    return (
        longer
        or overfitting.assess(LossCourse(validations=every, train_curve=TRAINING))["stage"] == "learning"
    )


def _called(levels: NDArray[np.float64], noise: float, rng: np.random.Generator) -> bool:
    return (
        overfitting.assess(LossCourse(validations=course(levels, noise, rng), train_curve=TRAINING))["state"]
        == "overfits"
    )


def _warned(levels: NDArray[np.float64], noise: float, rng: np.random.Generator) -> bool:
    every = course(levels, noise, rng)
    return any(
        live_alarms.overfits(
            LossCourse(validations=every[:seen], train_curve=TRAINING), unit="nats a token", looks=len(every)
        )
        for seen in range(2, len(every) + 1)
    )


def _quiet(validations: int, noise: float) -> list[Rate]:
    where = f"{validations} validations, noise of steps {noise:.1%} of the loss"
    asked = {"called overfitting": _called, "warned of while it trains": _warned}
    return [
        Rate("overfitting", f"flat course {what}, {where}", 0.05, 0, 0.07,
             partial(happens, flat(validations), noise), 1_000)
        for what, happens in asked.items()
    ]  # fmt: skip


RATES = [
    *(rate for validations in (5, 10, 30) for rate in _quiet(validations, 0.005)),
    *_quiet(10, 0.0),
    *_quiet(10, 0.01),
    *(
        Rate("overfitting", f"settled course called still learning, {validations} validations, noise of steps"
             f" {noise:.1%}", 0.025, 0, 0.05, partial(_still_learning, settling(validations), noise), 1_000)
        for validations, noise in ((10, 0.005), (30, 0.005), (30, 0.01), (10, 0.0))
    ),
    Rate("overfitting", "last step falls by 5%, called still learning, 10 validations, noise of steps 0.5%",
         1, 0.8, 1, partial(_still_learning, 2 * 0.95 ** np.arange(10), 0.005), 500),
    Rate("overfitting", "rise of 10% called overfitting, 10 validations, noise of steps 0.5%", 1, 0.9, 1,
         partial(_called, turning(10, 0.1), 0.005), 500),
    Rate("overfitting", "rise of 10% warned of while it trains, 10 validations, noise of steps 0.5%", 1,
         0.8, 1,
         partial(_warned, turning(10, 0.1), 0.005), 500),
    Rate("overfitting", "rise of 5% called overfitting, 10 validations, noise of steps 0.5%", 0.7, 0.4, 1,
         partial(_called, turning(10, 0.05), 0.005), 500),
]  # fmt: skip
