"""Careful raters are not flagged, careless ones are; and the plan for more ratings holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bench.made.rating_round import Round
from bench.truths import Rate
from engine.rating.analysis.model_comparison import estimate_ratings_needed
from engine.rating.analysis.rater_reliability import estimate_reliabilities, profile_raters
from engine.rating.analysis.strengths import estimate_strengths

Draw = Callable[[np.random.Generator], bool | None]
HONEST = Round((0.5, 0.0), items=60, raters=5, overlap=3, noise=0.3)


def any_honest_suspected(rng: np.random.Generator) -> bool:
    """Whether any of five raters without a side bias is suspected."""
    rated = HONEST.draw(rng, HONEST.people(rng))
    return any(profile.suspect for profile in profile_raters(rated))


def side_presser_seen(rng: np.random.Generator) -> bool:
    """Whether a rater who always chooses the left side, one of five, is detected."""
    people = HONEST.people(rng)
    side = people.side.copy()
    side[0] = 30.0
    rated = HONEST.draw(rng, replace(people, side=side))
    return profile_raters(rated)[0].always == "left"


def any_called_unlike(items: int, overlap: int, scale: float) -> Draw:
    """Return the event that any of five equally reliable raters is called more or less accurate than the
    others.
    """
    round_ = Round((0.5, 0.0), items=items, raters=5, overlap=overlap, of_item=2.0)

    def happens(rng: np.random.Generator) -> bool | None:
        people = replace(round_.people(rng), scale=np.full(5, scale))
        at = estimate_reliabilities(round_.draw(rng, people))
        return None if at.why else any(rater.standing != "unclear" for rater in at.raters)

    return happens


def guesser_called(wrongly: bool) -> Draw:
    """Return the event that the one of five raters who answers at random is called less accurate (or, with
    `wrongly`, another one is).
    """
    round_ = Round((0.5, 0.0), items=80, raters=5, overlap=3, of_item=2.0)

    def happens(rng: np.random.Generator) -> bool | None:
        random = np.zeros(5)
        random[2] = 1.0
        people = replace(round_.people(rng), random=random, scale=np.full(5, 2.0))
        at = estimate_reliabilities(round_.draw(rng, people))
        less = [rater.rater for rater in at.raters if rater.standing == "less"]
        return None if at.why else any(rater != "r2" for rater in less) if wrongly else "r2" in less

    return happens


def plan_holds(strength: float, items: int, overlap: int) -> Draw:
    """Return the event that a planned round is conclusive: its size is the plan's for the strength estimated
    from a round of `items` items.
    """
    round_ = Round((strength, 0.0), items=items, raters=3, overlap=overlap, of_item=0.0)

    def happens(rng: np.random.Generator) -> bool | None:
        people = round_.people(rng)
        first = estimate_strengths(round_.draw(rng, people))
        at = first.difference("s0", "s1").interval
        more = estimate_ratings_needed(first, "s0", "s1")
        if not more.count or more.at_least or at.low is None or abs(at.value) < 0.15:
            return None
        size = round((first.n + more.count) / overlap)
        again = replace(round_, strengths=(at.value, 0.0), nu=max(first.ties.value, 1e-3), items=size)
        verdict = estimate_strengths(again.draw(rng, people)).difference("s0", "s1").verdict
        return verdict == ("better" if at.value > 0 else "worse")

    return happens


RATES = [
    Rate("people", "any of 5 honest raters is suspected", 0.05, 0.0, 0.05, any_honest_suspected, 1_000),
    Rate("people", "a rater who always presses the left side is seen", 1.0, 0.98, 1.0, side_presser_seen,
         300),
    *(Rate("people", f"any of 5 raters alike is called unlike, {items} items, {overlap} each, scale {scale}",
           0.05, 0.0, 0.07, any_called_unlike(items, overlap, scale), 400)
      for items, overlap, scale in ((80, 5, 2.0), (80, 3, 2.0), (150, 2, 1.0))),
    Rate("people", "a rater who guesses is called right less often, 80 items", 0.9, 0.7, 1.0,
         guesser_called(wrongly=False), 200),
    Rate("people", "another one is", 0.05, 0.0, 0.05, guesser_called(wrongly=True), 200),
    *(Rate("people", f"a plan of more ratings reaches its 80%, after {items} items, {overlap} each", 0.8,
           0.72, 0.88, plan_holds(strength, items, overlap), 1_000)
      for strength, items, overlap in ((0.3, 40, 1), (0.4, 100, 2))),
]  # fmt: skip
