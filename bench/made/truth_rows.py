"""Rows as real ones are, for simulations whose truth is known: unequal lengths, heavy tails."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def lengths(rng: np.random.Generator, rows: int) -> Floats:
    """Tokens of each row: log-normal, of which the middle 98% differ about a hundredfold."""
    return np.maximum(1.0, np.round(np.exp(rng.normal(4, 1, rows))))


def heavy(rng: np.random.Generator, *shape: int, spread: float = 1.0) -> Floats:
    """Noise with the tails of Student's t on 4 degrees of freedom, with that standard deviation."""
    return spread * rng.standard_t(4, shape) / np.sqrt(2)
