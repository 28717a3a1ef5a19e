"""Simulations whose truth is known: one file per topic, each with its `RATES`, in folders by subject.

This module defines a rate. A file here calls the functions that the verdicts call, on rows drawn from a
known truth. It draws only from the generator that it is given, so that a rate is the same in every run.
Tests take a few of the same rates with fewer draws; `bench/truth.py` takes them all at full size.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.evaluation.statistics.intervals import wilson_interval


@dataclass(frozen=True)
class Rate:
    """How often an event happens where the truth is known.

    `happens` draws once and returns whether it did; None is a draw that does not count, such as one
    without an interval. The observed share of the draws that count must be between `low` and `high`.
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
    """Result of drawing a rate; `counted`: number of draws that count."""

    rate: Rate
    share: float
    counted: int

    @property
    def holds(self) -> bool:
        """Whether the draws are consistent with a share in the band, by Wilson's interval at 99%, as some of
        thousands of rates are outside by chance. False if no draw counts.
        """
        if not self.counted or self.rate.low <= self.share <= self.rate.high:
            return self.counted > 0
        chance = wilson_interval(round(self.share * self.counted), self.counted, confidence=0.99)
        return (chance.low or 0.0) <= self.rate.high and self.rate.low <= (chance.high or 1.0)


def observe(rate: Rate, draws: int | None = None) -> Observed:
    """Draw `draws` times (default: the rate's own number), with a seed derived from its name."""
    rng = np.random.default_rng(zlib.crc32(f"{rate.topic}/{rate.name}".encode()))
    outcomes = [rate.happens(rng) for _ in range(draws or rate.draws)]
    counted = [outcome for outcome in outcomes if outcome is not None]
    return Observed(rate, float(np.mean(counted)) if counted else float("nan"), len(counted))
