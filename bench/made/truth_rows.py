"""Realistic rows for simulations whose truth is known: unequal lengths, heavy tails."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def lengths(rng: np.random.Generator, rows: int) -> Floats:
    """Draw the tokens of each row: log-normal; the middle 98% span about a factor of one hundred."""
    return np.maximum(1.0, np.round(np.exp(rng.normal(4, 1, rows))))


def heavy(rng: np.random.Generator, *shape: int, spread: float = 1.0) -> Floats:
    """Draw noise from Student's t with 4 degrees of freedom, with the standard deviation `spread`."""
    return spread * rng.standard_t(4, shape) / np.sqrt(2)
