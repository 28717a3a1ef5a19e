"""Building blocks of shapes: lengths, noise with a mean of exactly zero, choices of known probability."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Noise = Callable[[np.random.Generator, int], Floats]

EVEN_TOKENS = 64.0
MEAN_LENGTH = 1 + math.exp(4.5)  # mean of draw_lengths


def draw_lengths(rng: np.random.Generator, rows: int) -> Floats:
    """Draw the tokens of each row: log-normal; the middle 98% span about a factor of one hundred."""
    return round_tokens(rng, 1 + np.exp(rng.normal(4, 1, rows)))


def draw_even_lengths(rng: np.random.Generator, rows: int) -> Floats:
    """Return the same length for every row."""
    return np.full(rows, EVEN_TOKENS)


def round_tokens(rng: np.random.Generator, lengths: Floats) -> Floats:
    """Round to integers whose expectation is the length itself; rounding to the nearest would shift the
    truth.
    """
    return np.floor(lengths + rng.random(len(lengths)))


def draw_normal(rng: np.random.Generator, rows: int) -> Floats:
    """Draw normal noise with a standard deviation of 1, as for all noise here."""
    return rng.normal(size=rows)


def draw_t4(rng: np.random.Generator, rows: int) -> Floats:
    """Draw from Student's t with 4 degrees of freedom, whose fourth moment is infinite."""
    return rng.standard_t(4, rows) / math.sqrt(2)


def draw_t25(rng: np.random.Generator, rows: int) -> Floats:
    """Draw from Student's t with 2.5 degrees of freedom, whose third moment is infinite."""
    return rng.standard_t(2.5, rows) / math.sqrt(5)


def draw_long_tail(rng: np.random.Generator, rows: int, sigma: float) -> Floats:
    """Draw log-normal values less their mean: a long upper tail."""
    variance = math.expm1(sigma**2) * math.exp(sigma**2)
    return (np.exp(rng.normal(0, sigma, rows)) - math.exp(sigma**2 / 2)) / math.sqrt(variance)


def draw_hardness(rng: np.random.Generator, *shape: int) -> Floats:
    """Draw the nats per token of rows that a model knows more or less well: log-normal around 2, never near
    zero.
    """
    return 0.2 + np.exp(rng.normal(math.log(1.8), 0.4, shape))


def split_gain(hardness: Floats, gains: Floats) -> tuple[Floats, Floats]:
    """Return losses before and after that differ by exactly `gains`, both above zero without clipping."""
    return hardness + np.maximum(gains, 0), hardness + np.maximum(-gains, 0)


def draw_course(rng: np.random.Generator, steps: int, correlation: float) -> Floats:
    """Draw an autoregressive course in its stationary state: mean 0 and standard deviation 1 at
    every step.
    """
    course = rng.normal(size=steps)
    fresh = math.sqrt(1 - correlation**2)
    for step in range(1, steps):
        course[step] = correlation * course[step - 1] + fresh * course[step]
    return course


def draw_with(rng: np.random.Generator, chance: Floats) -> Bools:
    """Draw events with these probabilities. Raises ValueError for one outside 0 to 1, as clipping it would
    change the truth.
    """
    if chance.min(initial=0) < 0 or chance.max(initial=1) > 1:
        raise ValueError(f"This shape can't hold it: chances of {chance.min():.3f} to {chance.max():.3f}.")
    return rng.random(chance.shape) < chance


def choose_by_weight(rng: np.random.Generator, weights: Floats, chosen: int) -> tuple[Ints, Floats]:
    """Sample the given number of items; return them and their exact inclusion probabilities.

    Systematic sampling in random order: the size is fixed, and inclusion is proportional to the weight.
    """
    probabilities = chosen * weights / weights.sum()
    if probabilities.max() > 1:
        raise ValueError(f"A weight asks for a probability of {probabilities.max():.2f}: choose fewer.")
    order = rng.permutation(len(weights))
    ends = np.cumsum(probabilities[order])
    places = np.minimum(np.searchsorted(ends, rng.random() + np.arange(chosen)), len(weights) - 1)
    picked = order[places]
    return picked, probabilities[picked]
