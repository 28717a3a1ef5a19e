"""Losses of two models on the same rows (`PAIRED`), and of runs that repeat a recipe (`REPRODUCED`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from bench.made.shapes.draws import (
    MEAN_LENGTH,
    Floats,
    Noise,
    draw_even_lengths,
    draw_hardness,
    draw_lengths,
    draw_long_tail,
    draw_normal,
    draw_t4,
    draw_t25,
    round_tokens,
    split_gain,
)

SPREAD = 0.3  # spread of gains of rows, in nats per token
LONG_SHARE, TIMES_AS_LONG = 0.03, 150


@dataclass(frozen=True)
class PairedRows:
    """Loss sums of rows under two models. truth: E[tokens x gain] / E[tokens], in nats per token."""

    base: Floats
    tuned: Floats
    tokens: Floats
    truth: float


PairedShape = Callable[[np.random.Generator, int, float], PairedRows]
Gains = Callable[[np.random.Generator, int, float], Floats]  # gains per token; the third is the mean


def _pair(rng: np.random.Generator, gains: Floats, tokens: Floats, truth: float) -> PairedRows:
    base, tuned = split_gain(draw_hardness(rng, len(gains)), gains)
    return PairedRows(base * tokens, tuned * tokens, tokens, truth)


def _draw_pairs(gains: Gains, lengths: Noise, rng: np.random.Generator, rows: int, gain: float) -> PairedRows:
    """Draw lengths independent of the gains, so that the mean per token equals the mean over rows."""
    return _pair(rng, gains(rng, rows, gain), lengths(rng, rows), gain)


def _draw_noisy(noise: Noise, rng: np.random.Generator, rows: int, gain: float) -> Floats:
    return gain + SPREAD * noise(rng, rows)


def _draw_tail_of_losses(sigma: float, rng: np.random.Generator, rows: int, gain: float) -> Floats:
    return gain - SPREAD * draw_long_tail(rng, rows, sigma)


def _draw_tail_of_gains(sigma: float, rng: np.random.Generator, rows: int, gain: float) -> Floats:
    return gain + SPREAD * draw_long_tail(rng, rows, sigma)


def _draw_ratio(sigma: float, rng: np.random.Generator, rows: int, gain: float) -> Floats:
    """Draw gains of rows with log-normal losses. Hard rows change the most, up or down by a share of their
    loss.
    """
    return gain + np.exp(rng.normal(0, sigma, rows)) * rng.normal(0, 0.2, rows)


def _draw_rare_losers(share: float, fall: float, rng: np.random.Generator, rows: int, gain: float) -> Floats:
    """Draw a few rows with large losses; all others gain just enough that the mean is `gain`."""
    loses = rng.random(rows) < share
    level = (gain + share * fall) / (1 - share)
    return np.where(loses, -fall, level) + rng.normal(0, 0.05, rows)


def _draw_mostly_unchanged(noise: Noise, rng: np.random.Generator, rows: int, gain: float) -> Floats:
    changed = rng.random(rows) < 0.2
    return np.where(changed, gain / 0.2 + SPREAD * noise(rng, rows), 0.0)


def _draw_few_long(short_minus_long: float, rng: np.random.Generator, rows: int, gain: float) -> PairedRows:
    """Draw a few rows with most of the tokens that gain less than the others (more if negative)."""
    is_long = rng.random(rows) < LONG_SHARE
    tokens = draw_lengths(rng, rows) * np.where(is_long, TIMES_AS_LONG, 1)
    part_of_long = LONG_SHARE * TIMES_AS_LONG / (1 - LONG_SHARE + LONG_SHARE * TIMES_AS_LONG)
    level = gain + short_minus_long * part_of_long
    gains = level - short_minus_long * is_long + rng.normal(0, 0.1, rows)
    return _pair(rng, gains, tokens, gain)


def _draw_correlated(correlation: float, rng: np.random.Generator, rows: int, gain: float) -> PairedRows:
    """Draw long rows that gain more (or less). Weighting by exp(z) moves the mean of a normal z by 1."""
    z = rng.normal(size=rows)
    tokens = round_tokens(rng, 1 + np.exp(4 + z))
    noise = correlation * z + math.sqrt(1 - correlation**2) * rng.normal(size=rows)
    level = gain - SPREAD * correlation * (MEAN_LENGTH - 1) / MEAN_LENGTH
    return _pair(rng, level + SPREAD * noise, tokens, gain)


def _draw_noisy_when_short(rng: np.random.Generator, rows: int, gain: float) -> PairedRows:
    """Draw gains that are means over tokens: short rows are noisy, long ones vary little."""
    tokens = draw_lengths(rng, rows)
    gains = gain + rng.normal(0, 0.05, rows) + rng.normal(size=rows) / np.sqrt(tokens)
    return _pair(rng, gains, tokens, gain)


GAINS: dict[str, Gains] = {
    "normal": partial(_draw_noisy, draw_normal),
    "t4": partial(_draw_noisy, draw_t4),
    "t2.5": partial(_draw_noisy, draw_t25),
    "2% lose 1 nat": partial(_draw_rare_losers, 0.02, 1.0),
    "2% lose 2 nats": partial(_draw_rare_losers, 0.02, 2.0),
    "2% lose 3 nats": partial(_draw_rare_losers, 0.02, 3.0),
    "5% lose 1 nat": partial(_draw_rare_losers, 0.05, 1.0),
    "5% lose 2 nats": partial(_draw_rare_losers, 0.05, 2.0),
    "5% lose 3 nats": partial(_draw_rare_losers, 0.05, 3.0),
    "long tail of losses, sigma 1": partial(_draw_tail_of_losses, 1.0),
    "long tail of losses, sigma 1.2": partial(_draw_tail_of_losses, 1.2),
    "long tail of gains, sigma 1": partial(_draw_tail_of_gains, 1.0),
    "long tail of gains, sigma 1.2": partial(_draw_tail_of_gains, 1.2),
    "hard rows change most": partial(_draw_ratio, 1.0),
    "80% unchanged": partial(_draw_mostly_unchanged, draw_normal),
    "80% unchanged, t4": partial(_draw_mostly_unchanged, draw_t4),
}
LENGTHS: dict[str, Noise] = {"even lengths": draw_even_lengths, "unequal lengths": draw_lengths}

# Each generates rows whose true gain, in nats per token, is the given number.
PAIRED: dict[str, PairedShape] = {
    **{
        f"{gains}, {lengths}": partial(_draw_pairs, GAINS[gains], LENGTHS[lengths])
        for gains, lengths in product(GAINS, LENGTHS)
    },
    "3% are 150 times as long and lose": partial(_draw_few_long, 0.5),
    "3% are 150 times as long and gain": partial(_draw_few_long, -0.5),
    "long rows gain more": partial(_draw_correlated, 0.7),
    "long rows gain less": partial(_draw_correlated, -0.7),
    "short rows are noisy": _draw_noisy_when_short,
}


@dataclass(frozen=True)
class Reproduction:
    """Loss sums of rows under the runs of a recipe, one line per seed, and under a run that repeats it.

    truth: by how many nats per token the repeated recipe is worse, over all seeds. of_these_runs: by how
    much this run is worse than those, over all rows: what more rows would show, but more seeds would not.
    """

    original: Floats
    again: Floats
    tokens: Floats
    truth: float
    of_these_runs: float


ReproducedShape = Callable[[np.random.Generator, int, int, float, float], Reproduction]


def _reproduce(
    noise: Noise, shifted: float, rng: np.random.Generator, rows: int, seeds: int, spread: float, shift: float
) -> Reproduction:
    """Draw runs. `spread`: standard deviation of a run's mean loss across seeds; rows vary by three times
    that.

    The whole shift is carried by a share `shifted` of the rows.
    """
    tokens, change = draw_lengths(rng, rows), shift / shifted
    runs = rng.normal(0, spread, seeds + 1)
    by_row = 3 * spread * noise(rng, rows * (seeds + 1)).reshape(seeds + 1, rows)
    room = max(0.0, -change) + np.maximum(0, -by_row.min(0))  # so that no loss is below zero
    losses = 1 + draw_hardness(rng, rows) + room + runs[:, None] + by_row
    losses[-1] += np.where(rng.random(rows) < shifted, change, 0.0)
    realized = shift + float(runs[-1] - runs[:-1].mean())
    return Reproduction(losses[:-1] * tokens, losses[-1] * tokens, tokens, shift, realized)


# Called with rows, seeds of the original, spread of seeds and true shift.
REPRODUCED: dict[str, ReproducedShape] = {
    "all rows shift": partial(_reproduce, draw_normal, 1.0),
    "all rows shift, t4": partial(_reproduce, draw_t4, 1.0),
    "a tenth of rows shifts": partial(_reproduce, draw_normal, 0.1),
    "2% of rows shift": partial(_reproduce, draw_normal, 0.02),
}
