"""Whole days of an endpoint's requests: false alarms in a month without a change, and changes detected.

The evidence of single requests, which is required in addition, can only make alarms rarer.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.made.shapes.streams import STREAMS
from bench.truths import Rate
from engine.monitoring import drift

ALPHA = 0.05
WATCHED = 9  # values that share the level
DAYS = 8 + 30  # a partial day, the reference week, and a month
SHIFT_DAY = 12.0
BIN = 0.01
WANDER = "days wander"


def alarmed_at(
    rng: np.random.Generator, shape: str, per_day: float, shift: float, watched: int
) -> float | None:
    """Return the day of the first alarm, for a value that is one of `watched`; None if there is none."""
    stream = STREAMS[shape](rng, per_day, DAYS, shift, SHIFT_DAY if shift else float("inf"))
    bins = np.clip(np.round(stream.values / BIN), 0, 1_500).astype(int)
    test = drift.begin_day_test()
    for place, (at, value) in enumerate(zip(stream.at.tolist(), bins.tolist(), strict=True)):
        closed = drift.add_to_day(test, at, place, [value])
        if closed and drift.find_changed_day(test, ALPHA / watched):
            return float(at / drift.DAY)
    return None


def is_alarmed(rng: np.random.Generator, shape: str, per_day: float, watched: int) -> bool:
    """Whether there is an alarm in a month without a change."""
    return alarmed_at(rng, shape, per_day, 0.0, watched) is not None


def is_found(rng: np.random.Generator, shape: str, shift: float) -> bool | None:
    """Whether a change is detected within eight days; None if there was an earlier alarm."""
    at = alarmed_at(rng, shape, 500.0, shift, WATCHED)
    if at is not None and at < SHIFT_DAY:
        return None
    return at is not None and at <= SHIFT_DAY + 8


RATES = [
    *(
        Rate(
            "watched_days", f"{shape}, {per_day} requests a day: an alarm within a month", ALPHA, 0.0, ALPHA,
            partial(is_alarmed, shape=shape, per_day=per_day, watched=1), 400,
        )
        for shape in STREAMS if shape != WANDER
        for per_day in (50, 500)
    ),
    Rate(
        "watched_days", f"{WANDER}, 500 requests a day: an alarm within a month (why not promised)", 0.1,
        0.02, 0.2, partial(is_alarmed, shape=WANDER, per_day=500, watched=1), 400,
    ),
    *(
        Rate(
            "watched_days", f"{shape}, a rise by {shift:.0%}: found within eight days", low, low, 1.0,
            partial(is_found, shape=shape, shift=shift), 100,
        )
        for shape, shift, low in (
            ("stationary", 0.3, 0.95), ("daily cycle", 0.3, 0.95), ("weekly cycle", 0.3, 0.9),
            ("AR(0.5)", 0.3, 0.9),
            ("AR(0.9)", 1.0, 0.9), ("bursts, 5% of arrivals", 1.0, 0.9), ("conversations", 1.0, 0.9),
        )
    ),
]  # fmt: skip
