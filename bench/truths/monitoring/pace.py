"""Slower responses and more failures: false alarms in a month without a change, and changes detected.

Lengths of responses differ a hundredfold, their time is proportional to the length times the shape's
factor, and they get three times as long half way, which is no slowdown; the first 15 wait for a model
being loaded.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.made.shapes.draws import Floats, draw_lengths
from bench.made.shapes.streams import DAY, STREAMS
from bench.truths import Rate
from engine.monitoring.sequential_tests import (
    PacedRequest,
    advance_pace_test,
    begin_pace_test,
    compute_pace_threshold,
)
from store.core.monitoring_schemas import PaceName, PaceTest

ALPHA = 0.05  # for both together
REFERENCE = 300
MONTH, BUSY_DAYS = 30, 3
LOADING = 15  # first answers that take eight times as long
LONGER = 3
SHIFT_DAY = 2.0
NEVER = 1e9
TIMED = [shape for shape in STREAMS if "flagged" not in shape]
TAILS = ("no tail of their own", "log-normal tails", "Pareto tails")


def _tail(rng: np.random.Generator, tail: str, n: int) -> Floats:
    if tail == "Pareto tails":
        return np.asarray(1 + rng.pareto(1.2, n), np.float64)
    return np.exp(rng.normal(0, 0.5, n)) if tail == "log-normal tails" else np.ones(n)


def timed(
    rng: np.random.Generator, shape: str, tail: str, per_day: float, days: int, factor: float
) -> list[PacedRequest]:
    """Draw requests whose responses take `factor` times as long from SHIFT_DAY on."""
    stream = STREAMS[shape](rng, per_day, days, 0.0, NEVER)
    n = len(stream.at)
    tokens = np.maximum(1, np.round(draw_lengths(rng, n) * np.where(stream.at > days * DAY / 2, LONGER, 1)))
    level = np.maximum(stream.values, 0.05) * _tail(rng, tail, n)
    seconds = (0.2 + 0.02 * tokens) * level * np.where(stream.at >= SHIFT_DAY * DAY, factor, 1)
    seconds[:LOADING] *= 8
    return [
        PacedRequest(place, at, took, 20, int(length), False, True)
        for place, (at, took, length) in enumerate(
            zip(stream.at.tolist(), seconds.tolist(), tokens.tolist(), strict=True)
        )
    ]


def failing(rng: np.random.Generator, per_day: float, days: int, shift: float) -> list[PacedRequest]:
    """Draw requests of which 0.5% fail, and from SHIFT_DAY on 0.5% times 1 + shift."""
    stream = STREAMS["1% flagged"](rng, per_day, days, shift, SHIFT_DAY if shift else NEVER)
    fails = (stream.values > 0) & (rng.random(len(stream.at)) < 0.5)
    return [
        PacedRequest(place, at, 1.0, 20, 50, failed, True)
        for place, (at, failed) in enumerate(zip(stream.at.tolist(), fails.tolist(), strict=True))
    ]


def tested(name: PaceName, requests: list[PacedRequest]) -> PaceTest:
    """Return the test after all requests."""
    return advance_pace_test(begin_pace_test(name, REFERENCE), requests, compute_pace_threshold(ALPHA))


def is_alarmed(rng: np.random.Generator, shape: str, tail: str, per_day: float, days: int) -> bool:
    """Whether there is an alarm although only lengths change."""
    return tested("slower", timed(rng, shape, tail, per_day, days, 1.0)).alarm_at is not None


def is_alarmed_of_failures(rng: np.random.Generator, per_day: float, days: int) -> bool:
    """Whether there is an alarm although 0.5% fail all the time."""
    return tested("failing", failing(rng, per_day, days, 0.0)).alarm_at is not None


def _within(test: PaceTest, hours: float) -> bool | None:
    at = test.alarm_at
    if at is not None and at < SHIFT_DAY * DAY:
        return None
    return at is not None and at <= SHIFT_DAY * DAY + hours * 3_600


def is_found(
    rng: np.random.Generator, shape: str, tail: str, per_day: float, factor: float, hours: float
) -> bool | None:
    """Whether slower responses are detected within this number of hours; None if there was an
    earlier alarm.
    """
    return _within(tested("slower", timed(rng, shape, tail, per_day, 3, factor)), hours)


def are_failures_found(rng: np.random.Generator, per_day: float, hours: float) -> bool | None:
    """Whether an increase of failures from 0.5% to 5% is detected in time."""
    return _within(tested("failing", failing(rng, per_day, 3, 9.0)), hours)


RATES = [
    *(
        Rate(
            "pace", f"{shape}, {tail}, {per_day:,} requests a day: an alarm within {days} days", ALPHA / 2,
            0.0, ALPHA, partial(is_alarmed, shape=shape, tail=tail, per_day=per_day, days=days), 100,
        )
        for per_day, days, tails in ((500, MONTH, TAILS), (5_000, BUSY_DAYS, TAILS[:1]))
        for shape in TIMED for tail in tails
    ),
    *(
        Rate(
            "pace", f"0.5% fail, {per_day:,} requests a day: an alarm within {days} days", ALPHA / 2, 0.0,
            ALPHA, partial(is_alarmed_of_failures, per_day=per_day, days=days), 200,
        )
        for per_day, days in ((500, MONTH), (5_000, BUSY_DAYS))
    ),
    *(
        Rate(
            "pace", f"{shape}, {tail}, 5,000 a day, {factor} times slower: found within {hours} hours", 0.9,
            0.9, 1.0,
            partial(is_found, shape=shape, tail=tail, per_day=5_000, factor=factor, hours=hours), 100,
        )
        for shape, tail, factor, hours in (
            ("stationary", "log-normal tails", 2, 6), ("stationary", "log-normal tails", 4, 1),
            ("stationary", "Pareto tails", 2, 12), ("stationary", "Pareto tails", 4, 1),
            ("daily cycle", "log-normal tails", 2, 12), ("daily cycle", "log-normal tails", 4, 3),
            ("AR(0.9)", "log-normal tails", 4, 2), ("bursts, 5% of arrivals", "log-normal tails", 4, 2),
            ("conversations", "log-normal tails", 4, 2),
        )
    ),
    Rate(
        "pace", "5,000 a day, failures from 0.5% to 5%: found within 12 hours", 0.9, 0.9, 1.0,
        partial(are_failures_found, per_day=5_000, hours=12), 100,
    ),
]  # fmt: skip
