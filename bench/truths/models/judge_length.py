"""Win rate at equal length, of a judge with a known preference for length."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from scipy import special

from bench.truths import Rate
from engine.evaluation.metrics.judge import fit_length_effect

# Log-odds of a win at equal length, its slope on the log-ratio of the lengths, mean and spread of that ratio.
JUDGES = {
    "no taste for length": (0.0, 0.0, 0.0, 0.5),
    "longer answers, liked": (0.0, 2.0, 0.3, 0.5),
    "better and longer": (1.0, 1.0, 0.3, 0.5),
    "much longer, much liked": (0.0, 3.0, 0.5, 0.7),
    "better and shorter": (1.5, 1.0, -0.3, 0.5),
    "length alone": (0.0, 8.0, 0.0, 0.5),
}
PAIRS = (30, 50, 200)


def drawn(rng: np.random.Generator, judge: str, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw (wins, log length differences) of decided pairs; lengths differ like those of texts, with heavy
    tails.
    """
    odds, slope, shift, spread = JUDGES[judge]
    difference = shift + spread * rng.standard_t(5, pairs)
    return (rng.random(pairs) < special.expit(odds + slope * difference)).astype(float), difference


def covers(judge: str, pairs: int) -> Callable[[np.random.Generator], bool | None]:
    """Return the event that the interval at equal length covers the truth; None if there is none."""
    truth = float(special.expit(JUDGES[judge][0]))

    def happens(rng: np.random.Generator) -> bool | None:
        equal = fit_length_effect(*drawn(rng, judge, pairs)).equal
        if equal is None or equal.low is None or equal.high is None:
            return None
        return equal.low <= truth <= equal.high

    return happens


RATES = [
    Rate("judge_length", f"{judge}, {pairs} pairs: covers", 0.95, 0.93, 0.97, covers(judge, pairs))
    for judge, pairs in product(JUDGES, PAIRS)
]
