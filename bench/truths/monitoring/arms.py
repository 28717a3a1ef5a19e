"""Two versions side by side: false and true differences, and coverage at all looks together.

Callers send from 1 to 100 requests, half of them under 10, and are tested as by the monitor, after any
request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.truths import Rate
from engine.monitoring.comparisons import (
    GRID,
    InterimLook,
    compare_callers,
    compare_paired_callers,
    compute_next_look,
)
from store.monitoring.side_by_side import END, STEP

ALPHA = 0.05 / 3  # shared by three kinds of outcome
MAX_REQUESTS = 100  # maximum requests of a caller
LIKENESS = 0.1  # correlation of the responses to one caller
DRAWS = 300

Draw = Callable[[np.random.Generator], bool | None]


@dataclass(frozen=True)
class Arms:
    """Number of callers, the candidate's share of them, the share of correct responses, and how much higher
    the candidate's is.
    """

    callers: int
    share: float
    right: float
    more: float = 0.0
    likeness: float = LIKENESS


def looks(arms: Arms, rng: np.random.Generator, spent: int = 0) -> list[InterimLook]:
    """Return all interim looks at one stream that could detect anything. spent: number of earlier looks at
    other streams.
    """
    many = np.exp(rng.uniform(0, np.log(MAX_REQUESTS), arms.callers)).astype(int)
    second = rng.random(arms.callers) < arms.share
    right = np.where(second, _right(arms, arms.more, rng), _right(arms, 0.0, rng))
    who = rng.permutation(np.repeat(np.arange(arms.callers), many))
    good = rng.random(len(who)) < right[who]
    seen: list[InterimLook] = []
    at = compute_next_look(0)
    while at <= len(who):
        sides = _by_share(who[:at], good[:at], second)
        look = compare_callers(sides[0], sides[1], spent + len(seen) + 1, ALPHA)
        seen += [look] if look.attainable else []
        at = compute_next_look(at)
    return seen


def _right(arms: Arms, more: float, rng: np.random.Generator) -> np.ndarray:
    """Draw each caller's probability of a correct response."""
    mean, strength = arms.right + more, 1 / arms.likeness - 1
    return rng.beta(mean * strength, (1 - mean) * strength, arms.callers)


def _by_share(who: np.ndarray, good: np.ndarray, second: np.ndarray) -> list[Counter[int]]:
    answers = np.bincount(who, minlength=len(second))
    there = answers > 0
    places = _places(np.bincount(who, good, len(second))[there] / answers[there])
    return [Counter(places[second[there] == side].tolist()) for side in (False, True)]


def _places(shares: np.ndarray) -> np.ndarray:
    """Round as the store does: finely near 0 and 1."""
    parts = GRID * shares
    rounded = np.where((parts <= END) | (parts >= GRID - END), np.round(parts), STEP * np.round(parts / STEP))
    inner = np.clip(rounded, 1, GRID - 1)
    return np.where((shares <= 0) | (shares >= 1), parts, inner).astype(int)


def difference_told(arms: Arms) -> Draw:
    """Return the event that any look reports a difference."""
    return lambda rng: any(look.better or look.worse for look in looks(arms, rng))


def told_of_a_ramp(callers: int) -> Draw:
    """Return the event that a difference is reported at any step of a gradual rollout, with separate
    responses at each step.
    """

    def happens(rng: np.random.Generator) -> bool:
        spent = 0
        for share in RAMP:
            seen = looks(Arms(callers, share, 0.9), rng, spent)
            if any(look.better or look.worse for look in seen):
                return True
            spent += len(seen)
        return False

    return happens


def covered(arms: Arms) -> Draw:
    """Return the event that the interval of every look covers the true difference."""

    def happens(rng: np.random.Generator) -> bool | None:
        seen = [look.difference for look in looks(arms, rng)]
        held = [(each.low or 0.0) <= arms.more <= (each.high or 0.0) for each in seen]
        return all(held) if held else None

    return happens


def pairs_told(callers: int, more: float) -> Draw:
    """Return the event that a difference is reported for a shadow that is right more often by `more`, on the
    same requests.
    """

    def happens(rng: np.random.Generator) -> bool:
        many = np.exp(rng.uniform(0, np.log(MAX_REQUESTS), callers)).astype(int)
        gained = rng.choice([-1, 0, 1], int(many.sum()), p=[0.1 - more / 2, 0.8, 0.1 + more / 2])
        who = rng.permutation(np.repeat(np.arange(callers), many))
        at, number = compute_next_look(0), 1
        while at <= len(who):
            answers = np.bincount(who[:at], minlength=callers)
            mean = np.bincount(who[:at], gained[:at], callers)[answers > 0] / answers[answers > 0]
            seen = compare_paired_callers(
                Counter((np.sign(mean) * _places(np.abs(mean))).astype(int).tolist()), number, 3 * ALPHA
            )
            if seen.attainable and (seen.better or seen.worse):
                return True
            number, at = number + seen.attainable, compute_next_look(at)
        return False

    return happens


def _name(arms: Arms) -> str:
    more = f", candidate {100 * arms.more:+.0f} points" if arms.more else ""
    return f"{arms.callers} callers, {arms.share:.0%} of them the candidate's, {arms.right:.0%} right{more}"


SHARES = (0.5, 0.1)
RAMP = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
RATES = [
    *(Rate("arms", f"told without a difference: {_name(arms)}", ALPHA, 0.0, 0.04, difference_told(arms),
           DRAWS)
      for arms in (Arms(callers, share, right) for callers in (10, 30, 100, 500) for share in SHARES
                   for right in (0.8, 0.97))),
    Rate("arms", "told without a difference: 100 callers, answers to one half alike", ALPHA, 0.0, 0.04,
         difference_told(Arms(100, 0.5, 0.8, likeness=0.5)), DRAWS),
    *(Rate("arms", f"told without a difference: {callers} callers, nine steps of the share", ALPHA, 0.0, 0.04,
           told_of_a_ramp(callers), DRAWS // 2) for callers in (30, 100)),
    *(Rate("arms", f"held at all looks: {_name(arms)}", 1 - ALPHA, 0.95, 1.0, covered(arms), DRAWS)
      for arms in (Arms(callers, share, right, more) for callers in (30, 100, 500) for share in SHARES
                   for right, more in ((0.8, 0.0), (0.8, -0.2), (0.97, -0.1)))),
    *(Rate("arms", f"a difference is told: {_name(arms)}", low, low, 1.0, difference_told(arms), DRAWS)
      for arms, low in ((Arms(30, 0.5, 0.8, -0.4), 0.4), (Arms(100, 0.5, 0.8, -0.2), 0.5),
                        (Arms(100, 0.5, 0.8, -0.4), 0.95), (Arms(100, 0.1, 0.8, -0.4), 0.2),
                        (Arms(500, 0.5, 0.8, -0.1), 0.3), (Arms(500, 0.1, 0.8, -0.2), 0.5),
                        (Arms(500, 0.5, 0.8, 0.1), 0.4))),
    *(Rate("arms", f"told without a difference: pairs of {callers} callers", 3 * ALPHA, 0.0, 0.08,
           pairs_told(callers, 0.0), DRAWS) for callers in (10, 30, 100)),
    *(Rate("arms", f"a difference of 10 points is told: pairs of {callers} callers", low, low, 1.0,
           pairs_told(callers, 0.1), DRAWS) for callers, low in ((30, 0.2), (100, 0.7))),
]  # fmt: skip
