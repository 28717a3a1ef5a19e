"""What the length of answers has to do with a judge's preferences, and what is left at equal length.

Judges prefer longer answers (Dubois et al. 2024), so that a model wins by saying more. Of pairs that were
decided (won in both orders), how often the longer answer won is counted; and the preference is regressed on
the difference of the logarithms of the lengths, whose intercept is the chance of a win at equal length. The
regression is Firth's (1993), finite where the longer answer always won, its interval that of the penalised
profile likelihood (Heinze & Schemper 2002), which covers from 30 pairs on. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from engine.diagnostics.statistics.statistics import Interval, wilson_interval
from store.documents.evaluations.judging_result import JudgedLength

LEAST_PAIRS = 30  # decided ones, below which nothing is said of equal length
LEAST_EACH = 5  # pairs in which either side is the longer one, below which it would be a guess from afar
FURTHEST = 30.0  # log odds at which a search for an end of the interval gives up
CONVERGED, SLOPE_CONVERGED, END_CONVERGED = 1e-6, 1e-4, 1e-3  # log odds

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LengthEffect:
    """longer: share of decided pairs of unequal length that the longer answer won, None without one.
    first_longer: decided pairs in which the first one's answer was the longer. equal: share that the first
    would win of pairs of equal length, or None, and then `problem` says why."""

    longer: Interval | None
    first_longer: int
    equal: Interval | None
    problem: str

    def to_dict(self) -> JudgedLength:
        """As a judging's document has it."""
        return {
            "longer": self.longer.to_dict() if self.longer else None,
            "first_longer": self.first_longer,
            "equal": self.equal.to_dict() if self.equal else None,
            "problem": self.problem,
        }


def length_effect(
    scores: Sequence[float] | Floats, first: Sequence[str], second: Sequence[str]
) -> LengthEffect:
    """Of pairs of answers and their scores: 1 where the first won, 0 where the second did, 0.5 or NaN else.

    Lengths are in characters, without white space at the ends.
    """
    decided = np.isin(np.asarray(scores, np.float64), (0.0, 1.0))
    wins = np.asarray(scores, np.float64)[decided]
    logs = [np.log([max(1, len(text.strip())) for text in texts]) for texts in (first, second)]
    return of_lengths(wins, (logs[0] - logs[1])[decided] if len(decided) else np.zeros(0))


def of_lengths(wins: Floats, difference: Floats) -> LengthEffect:
    """Of decided pairs: 1 where the first won, else 0, and its log length minus that of the second."""
    unequal = difference != 0
    longer_won = int(((difference > 0) == (wins == 1))[unequal].sum())
    longer = wilson_interval(longer_won, int(unequal.sum())) if unequal.any() else None
    first_longer = int((difference > 0).sum())
    problem = _problem(len(wins), first_longer, int((difference < 0).sum()))
    return LengthEffect(longer, first_longer, None if problem else _at_equal(wins, difference), problem)


def _problem(pairs: int, first_longer: int, second_longer: int) -> str:
    if pairs < LEAST_PAIRS:
        return f"under {LEAST_PAIRS} decided pairs"
    if first_longer + second_longer and min(first_longer, second_longer) < LEAST_EACH:
        most = max(first_longer, second_longer)
        return f"one side's answers are the longer ones in {most} of {pairs} decided pairs"
    return ""


def _at_equal(wins: Floats, difference: Floats) -> Interval:
    """The chance that the first wins where both are equally long."""
    if not np.any(difference):
        return wilson_interval(int(wins.sum()), len(wins))
    fit = _Firth(wins, difference / difference.std())
    value, slope = fit.best()
    drop = float(special.chdtri(1, 0.05)) / 2
    top = fit.likelihood(value, slope)

    def lacks(intercept: float) -> float:
        return fit.likelihood(intercept, fit.slope_at(intercept, slope)) - top + drop

    ends = [_end(lacks, value, way) for way in (-1.0, 1.0)]
    shares = special.expit([value, *ends])
    return Interval(float(shares[0]), float(shares[1]), float(shares[2]), len(wins))


def _end(lacks: Callable[[float], float], value: float, way: float) -> float:
    """Where the profile likelihood has dropped far enough, below or above the best value."""
    reach = 1.0
    while lacks(value + way * reach) > 0:
        reach *= 2
        if reach > FURTHEST:
            return way * float("inf")
    near, far = value + way * reach / 2 * (reach > 1), value + way * reach
    return float(optimize.brentq(lacks, near, far, xtol=END_CONVERGED)) if lacks(near) > 0 else near


class _Sums(NamedTuple):
    """Chances and weights of the pairs, and the sums of weights: plain, times the difference and times its
    square; determinant: of the information."""

    chance: Floats
    weight: Floats
    whole: float
    first: float
    second: float
    determinant: float


class _Firth:
    """Logistic regression with Jeffreys' prior: an intercept and one slope."""

    def __init__(self, wins: Floats, difference: Floats) -> None:
        self.wins, self.difference = wins, difference

    def _sums(self, intercept: float, slope: float) -> _Sums:
        chance = special.expit(intercept + slope * self.difference)
        weight = np.maximum(chance * (1 - chance), 1e-12)
        whole = float(weight.sum())
        first = float(weight @ self.difference)
        second = float(weight @ np.square(self.difference))
        return _Sums(chance, weight, whole, first, second, max(whole * second - first * first, 1e-12))

    def likelihood(self, intercept: float, slope: float) -> float:
        """Its logarithm, with the prior."""
        odds = intercept + slope * self.difference
        determinant = self._sums(intercept, slope).determinant
        return float(self.wins @ odds - np.logaddexp(0, odds).sum() + np.log(determinant) / 2)

    def _score(self, intercept: float, slope: float) -> tuple[float, float, _Sums]:
        """The derivatives by intercept and by slope."""
        sums = self._sums(intercept, slope)
        d = self.difference
        leverage = sums.second - 2 * sums.first * d + sums.whole * np.square(d)
        leverage = sums.weight * leverage / sums.determinant
        residual = self.wins - sums.chance + leverage * (0.5 - sums.chance)
        return float(residual.sum()), float(residual @ d), sums

    def best(self) -> tuple[float, float]:
        """Intercept and slope."""
        intercept = slope = 0.0
        for _ in range(200):
            up, along, sums = self._score(intercept, slope)
            steps = (
                (sums.second * up - sums.first * along) / sums.determinant,
                (sums.whole * along - sums.first * up) / sums.determinant,
            )
            shorter = max(1.0, *map(abs, steps))
            intercept, slope = intercept + steps[0] / shorter, slope + steps[1] / shorter
            if max(map(abs, steps)) < CONVERGED:
                break
        return intercept, slope

    def slope_at(self, intercept: float, slope: float) -> float:
        """The best slope with a given intercept, looked for from a near one: steps that lose are halved."""
        reached = self.likelihood(intercept, slope)
        for _ in range(200):
            _, along, sums = self._score(intercept, slope)
            step = along / max(sums.second, 1e-9)
            step /= max(1.0, abs(step))
            while (beyond := self.likelihood(intercept, slope + step)) < reached and abs(
                step
            ) > SLOPE_CONVERGED:
                step /= 2
            if abs(step) <= SLOPE_CONVERGED:
                break
            slope, reached = slope + step, beyond
        return slope
