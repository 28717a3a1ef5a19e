"""What shapes are drawn with: lengths, noise whose mean is exactly zero, choices of known probability."""

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
MEAN_LENGTH = 1 + math.exp(4.5)  # of draw_lengths


def draw_lengths(rng: np.random.Generator, rows: int) -> Floats:
    """Tokens of each row: log-normal, the middle 98% differ about a hundredfold."""
    return round_tokens(rng, 1 + np.exp(rng.normal(4, 1, rows)))


def draw_even_lengths(rng: np.random.Generator, rows: int) -> Floats:
    """Every row as long as the others."""
    return np.full(rows, EVEN_TOKENS)


def round_tokens(rng: np.random.Generator, lengths: Floats) -> Floats:
    """Whole tokens whose expectation is the length itself: rounding to the nearest would shift the truth."""
    return np.floor(lengths + rng.random(len(lengths)))


def draw_normal(rng: np.random.Generator, rows: int) -> Floats:
    """Normal noise, with a standard deviation of 1 as all noise here has."""
    return rng.normal(size=rows)


def draw_t4(rng: np.random.Generator, rows: int) -> Floats:
    """Student's t on 4 degrees of freedom: its fourth moment is infinite."""
    return rng.standard_t(4, rows) / math.sqrt(2)


def draw_t25(rng: np.random.Generator, rows: int) -> Floats:
    """Student's t on 2.5 degrees of freedom: its third moment is infinite."""
    return rng.standard_t(2.5, rows) / math.sqrt(5)


def draw_long_tail(rng: np.random.Generator, rows: int, sigma: float) -> Floats:
    """Log-normal, less its mean: a long tail upwards."""
    variance = math.expm1(sigma**2) * math.exp(sigma**2)
    return (np.exp(rng.normal(0, sigma, rows)) - math.exp(sigma**2 / 2)) / math.sqrt(variance)


def draw_hardness(rng: np.random.Generator, *shape: int) -> Floats:
    """Nats a token of rows that a model knows more or less: log-normal around 2, never near zero."""
    return 0.2 + np.exp(rng.normal(math.log(1.8), 0.4, shape))


def split_gain(hardness: Floats, gains: Floats) -> tuple[Floats, Floats]:
    """Losses before and after that differ by exactly `gains`, both above zero without clipping either."""
    return hardness + np.maximum(gains, 0), hardness + np.maximum(-gains, 0)


def draw_course(rng: np.random.Generator, steps: int, correlation: float) -> Floats:
    """An autoregressive course in its stationary state: mean 0, standard deviation 1 at every step."""
    course = rng.normal(size=steps)
    fresh = math.sqrt(1 - correlation**2)
    for step in range(1, steps):
        course[step] = correlation * course[step - 1] + fresh * course[step]
    return course


def draw_with(rng: np.random.Generator, chance: Floats) -> Bools:
    """Whether each happens; a chance beyond 0 and 1 would be cut there, and the truth be another."""
    if chance.min(initial=0) < 0 or chance.max(initial=1) > 1:
        raise ValueError(f"This shape can't hold it: chances of {chance.min():.3f} to {chance.max():.3f}.")
    return rng.random(chance.shape) < chance


def choose_by_weight(rng: np.random.Generator, weights: Floats, chosen: int) -> tuple[Ints, Floats]:
    """As many as asked for, and the exact probability with which each of them was included.

    Systematic sampling in an order of chance: its size is fixed, its inclusion proportional to the weight.
    """
    probabilities = chosen * weights / weights.sum()
    if probabilities.max() > 1:
        raise ValueError(f"A weight asks for a probability of {probabilities.max():.2f}: choose fewer.")
    order = rng.permutation(len(weights))
    ends = np.cumsum(probabilities[order])
    places = np.minimum(np.searchsorted(ends, rng.random() + np.arange(chosen)), len(weights) - 1)
    picked = order[places]
    return picked, probabilities[picked]
