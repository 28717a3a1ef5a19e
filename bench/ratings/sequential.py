"""Sequential stopping of rounds: false stops, time to a true one, and agreement with the final verdict.

False stops are counted where nobody is better, with raters one after another or with drifting tastes.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np

from bench.made.rating_round import Round
from bench.made.shapes.votes import VOTED, Votes
from bench.made.voted import compare
from bench.truths import Rate
from engine.rating.analysis.comparisons import Comparisons
from engine.rating.analysis.model_comparison import Peek, compute_always_valid_interval, peek
from engine.rating.analysis.strengths import estimate_strengths

Draw = Callable[[np.random.Generator], bool]
PEEKS = 10_000  # one after each item
LOOKS = 10  # per round, evenly over its votes
PREFERENCES = {  # shares of items that prefer the first, neither, and the second
    "half ties": (0.25, 0.5, 0.25),
    "no ties": (0.5, 0.0, 0.5),
    "nearly all ties": (0.05, 0.9, 0.05),
}


def ever_told_apart(shares: tuple[float, float, float], raters: int) -> Draw:
    """Return the event that equal systems are called different at any of the peeks. An item is the mean of
    its raters, who are alike.

    What is excluded remains excluded, so the last peek includes what all earlier ones would have found.
    """

    def happens(rng: np.random.Generator) -> bool:
        leaning = rng.choice([1.0, 0.0, -1.0], (PEEKS, 1), p=shares)
        own = rng.choice([1.0, 0.0, -1.0], (PEEKS, raters), p=shares)
        scores = np.where(rng.random((PEEKS, raters)) < 0.5, leaning, own).mean(axis=1)
        at = compute_always_valid_interval(scores)
        return at.above or at.below or bool(at.why)

    return happens


def any_pair(systems: int, items: int) -> Draw:
    """Return the event that any two of this number of equal systems are called different, with all pairs
    rated on each item.
    """
    pairs = list(combinations(range(systems), 2))

    def happens(rng: np.random.Generator) -> bool:
        levels = rng.normal(0, 1, (items, systems))
        confidence = 1 - 0.05 / len(pairs)
        for first, second in pairs:
            chance = 1 / (1 + np.exp(levels[:, second] - levels[:, first]))
            at = compute_always_valid_interval(
                np.where(rng.random(items) < chance, 1.0, -1.0), confidence=confidence
            )
            if at.above or at.below or at.why:
                return True
        return False

    return happens


def told_in_time(preference: float, items: int) -> Draw:
    """Return the event that a true mean preference is detected after this number of items, 30% of which are
    ties.
    """
    shares = (0.35 + preference / 2, 0.3, 0.35 - preference / 2)

    def happens(rng: np.random.Generator) -> bool:
        return compute_always_valid_interval(rng.choice([1.0, 0.0, -1.0], items, p=shares)).above

    return happens


def looks(comparisons: Comparisons) -> list[Peek]:
    """Return the peeks at a round in progress, the last at all of it."""
    planned = len(comparisons.items)
    sizes = np.unique(np.linspace(1, len(comparisons), LOOKS).astype(int))
    parts = [comparisons.take(np.arange(len(comparisons)) < size) for size in sizes]
    return [peek(part, "s0", "s1", planned=planned) for part in parts]


def ends_wrongly(shape: str, items: int) -> Draw:
    """Return the event that a peek at a round in which no model is better ends it, or shows a value outside
    its own interval.
    """

    def happens(rng: np.random.Generator) -> bool:
        for at in looks(compare(VOTED[shape](rng, items, 0.0))):
            interval = at.interval
            outside = interval.low is not None and not interval.low <= interval.value <= (interval.high or 0)
            if outside or at.state in ("first", "second"):
                return True
        return False

    return happens


def _in_turn(raters: int, lean: float, drift: float) -> Callable[[np.random.Generator, int, float], Votes]:
    """Return a function that draws raters who take turns on the prompts, each with an individual bias; all
    drift by `drift` until the last prompt.
    """

    def draw(rng: np.random.Generator, items: int, preference: float) -> Votes:
        who = np.arange(items) % raters
        means = preference + rng.uniform(-lean, lean, raters)[who]
        means += drift * ((np.arange(items) + 0.5) / items - 0.5)
        tied, ahead = rng.random(items) < 0.2, rng.random(items) < (1 + means / 0.8) / 2
        outcomes = np.where(tied, 0, np.where(ahead, 1, -1))
        every, zeros = np.arange(items), np.zeros(items, np.int64)
        return Votes(every, who, 1.0 * every, zeros, zeros + 1, outcomes, np.ones(items), preference)

    return draw


def turns_end(raters: int, items: int, *, lean: float, drift: float = 0.0, preference: float = 0.0) -> Draw:
    """Return the event that any peek at raters who take turns ends the round."""
    draw = _in_turn(raters, lean, drift)

    def happens(rng: np.random.Generator) -> bool:
        return any(at.state != "go_on" for at in looks(compare(draw(rng, items, preference))))

    return happens


def contradicts(rng: np.random.Generator) -> bool:
    """Whether the decision to end a round and its headline contradict each other, whatever they say."""
    round_ = Round((0.6, 0.0), items=int(rng.integers(20, 200)), raters=6, of_rater=0.4)
    comparisons = round_.draw(rng, round_.people(rng))
    verdict = estimate_strengths(comparisons, resamples=200).difference("s0", "s1").verdict
    at = peek(comparisons, "s0", "s1", verdict=verdict)
    ended = at.state in ("first", "second")
    return ended != (at.interval.above or at.interval.below) or (
        ended and verdict != ("better" if at.state == "first" else "worse")
    )


ONE_AFTER_ANOTHER = [name for name in VOTED if "one after another" in name]
DRIFTING = [name for name in VOTED if "drifts" in name]

RATES = [
    *(Rate("sequential", f"{name}, {raters} raters an item: a false alarm in {PEEKS:,} peeks", 0.05, 0.0,
           0.05, ever_told_apart(shares, raters), 500)
      for name, shares in PREFERENCES.items() for raters in (1, 3)),
    Rate("sequential", "6 equal systems, 500 items: a false alarm for any pair", 0.05, 0.0, 0.05,
         any_pair(6, 500), 300),
    *(Rate("sequential", f"mean preference {preference:g}: told apart within {items} items", 0.8, 0.7, 1.0,
           told_in_time(preference, items), 500)
      for preference, items in ((0.5, 35), (0.3, 100), (0.2, 320))),
    *(Rate("sequential", f"{shape}, {items} prompts: ends wrongly", 0.05, 0.0, 0.05,
           ends_wrongly(shape, items), 500)
      for shape in (*ONE_AFTER_ANOTHER, *DRIFTING, "one rater, no ties") for items in (100, 500)),
    *(Rate("sequential", f"{raters} raters in turn, leans to {lean:g}, drift {drift:g}, {items} prompts: ends"
           " wrongly", 0.05, 0.0, 0.05, turns_end(raters, items, lean=lean, drift=drift), 500)
      for raters, lean, drift, items in ((6, 0.0, 0.0, 300), (6, 0.3, 0.0, 300), (12, 0.3, 0.0, 1_000),
                                         (6, 0.0, 0.8, 200), (6, 0.0, -0.8, 500), (6, 0.0, 0.8, 1_000))),
    *(Rate("sequential", f"{raters} raters in turn, leans to {lean:g}, preference 0.3, {items} prompts: ends",
           0.8, 0.7, 1.0, turns_end(raters, items, lean=lean, preference=0.3), 300)
      for raters, lean, items in ((6, 0.0, 300), (12, 0.2, 500))),
    Rate("sequential", "an end contradicts the headline or its interval", 0.0, 0.0, 0.0, contradicts, 300),
]  # fmt: skip
