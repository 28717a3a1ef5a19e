"""Simulations whose truth is known: one file a topic, each with its `RATES`, in rooms by what is asked. What
a rate is stands here.

A file here calls what the verdicts call, on rows drawn where the answer is known. It draws from the generator
that it is given and from nothing else, so that a rate is the same at every run. Tests take a few of the same
rates with fewer draws; `bench/truth.py` takes them all at full size.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.evaluation.statistics.intervals import wilson_interval


@dataclass(frozen=True)
class Rate:
    """How often something happens where the truth is known.

    `happens` draws once and says whether it did; None is a draw that does not count, such as one without an
    interval. `low` to `high` is where the observed share of the draws that count must lie.
    """

    topic: str
    name: str
    nominal: float
    low: float
    high: float
    happens: Callable[[np.random.Generator], bool | None]
    draws: int = 2_000


@dataclass(frozen=True)
class Observed:
    """What came of `draws` draws of a rate; `counted` of them counted."""

    rate: Rate
    share: float
    counted: int

    @property
    def holds(self) -> bool:
        """Whether so many draws leave it open that the share lies in its band (Wilson's interval at 99%, as
        of thousands of rates some lie outside by chance); without a draw that counts there is none."""
        if not self.counted or self.rate.low <= self.share <= self.rate.high:
            return self.counted > 0
        chance = wilson_interval(round(self.share * self.counted), self.counted, confidence=0.99)
        return (chance.low or 0.0) <= self.rate.high and self.rate.low <= (chance.high or 1.0)


def observe(rate: Rate, draws: int | None = None) -> Observed:
    """Draw `draws` times (all of the rate's where none are given), from a seed that its name fixes."""
    rng = np.random.default_rng(zlib.crc32(f"{rate.topic}/{rate.name}".encode()))
    outcomes = [rate.happens(rng) for _ in range(draws or rate.draws)]
    counted = [outcome for outcome in outcomes if outcome is not None]
    return Observed(rate, float(np.mean(counted)) if counted else float("nan"), len(counted))
