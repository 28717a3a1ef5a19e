"""Coverage of shares and means of ratings that are correlated within items and raters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bench.made.rating_round import Round
from bench.made.shapes.votes import VOTED
from bench.made.voted import compare
from bench.ratings import HIGH, LOW, RARE_HIGH, holds
from bench.truths import Rate
from engine.rating.analysis.rates import (
    CriterionScores,
    Passes,
    compute_both_bad_rate,
    compute_criterion_differences,
    compute_criterion_means,
    compute_pass_rates,
    compute_win_rates,
    measure_position_effect,
)

Draw = Callable[[np.random.Generator], bool | None]
Floats = NDArray[np.float64]
DRAWS = 2_000
NOISY = {"noise": 0.5, "random": 0.4}
ROUNDS = {
    "20 items, 1 rater": Round((0.5, 0.0), items=20, raters=1, bad=0.1),
    "50 items, 3 raters each": Round((0.5, 0.0), items=50, raters=3, overlap=3, bad=0.2, **NOISY),
    "200 items, 4 raters, 2 each": Round(
        (0.5, 0.0), items=200, raters=4, overlap=2, bad=0.05, side=(0.3, 0.3), of_item=2.0, **NOISY
    ),
}
NORMAL = np.random.default_rng(0).normal(0, 1, 200_000)


def wins_hold(round_: Round) -> Draw:
    """Return the event that the interval of the share of ratings won by the first of two systems covers the
    truth.
    """

    def happens(rng: np.random.Generator) -> bool | None:
        people = round_.people(rng)
        every = np.arange(round_.raters)
        truth = (1 - round_.bad) * round_.expected(people, every, 0, 1)[0]
        return holds(compute_win_rates(round_.draw(rng, people), "s0").wins, truth)

    return happens


def voted_holds(shape: str, items: int, figure: str) -> Draw:
    """Return the event that the interval of wins, ties, or the score with ties as half covers the truth, if
    prompts were selected or disputes resolved.
    """
    ties = 0.1

    def happens(rng: np.random.Generator) -> bool | None:
        votes = VOTED[shape](rng, items, 0.2)
        rates = compute_win_rates(compare(votes, adjudicated=shape.startswith("third vote")), "s0")
        at, truth = {
            "wins": (rates.wins, (1 - ties + votes.truth) / 2),
            "ties": (rates.ties, ties),
            "score": (rates.score, (1 + votes.truth) / 2),
        }[figure]
        return holds(at, truth)

    return happens


def bad_hold(round_: Round) -> Draw:
    """Return the event that the interval of the share of "both bad" ratings covers the truth; all raters of
    an item agree on it.
    """

    def happens(rng: np.random.Generator) -> bool | None:
        return holds(compute_both_bad_rate(round_.draw(rng, round_.people(rng))), round_.bad)

    return happens


def side_holds(effect: float, items: int) -> Draw:
    """Return the event that the interval of the left side's share of decided ratings covers the truth, for
    raters whose log odds it changes by the same amount.
    """
    round_ = Round((0.5, 0.0), items=items, raters=3, overlap=2, of_item=0.0, side=(effect, 0.0))
    people = round_.people(np.random.default_rng(0))
    left, right, _ = people.chances(np.array([0.5, -0.5]), np.array([0, 0]), round_.nu).sum(axis=0)

    def happens(rng: np.random.Generator) -> bool | None:
        return holds(measure_position_effect(round_.draw(rng, people)).share, left / (left + right))

    return happens


def _scores(
    rng: np.random.Generator, items: int, raters: int, mean: Floats, likes: Floats
) -> CriterionScores:
    """Draw the scores of each rater for both systems on each item. An item improves either system, and a
    rater is lenient or strict.
    """
    item, rater, system = (
        part.ravel() for part in np.meshgrid(np.arange(items), np.arange(raters), [0, 1], indexing="ij")
    )
    good = mean[system] + likes[rater] + rng.normal(0, 0.7, (items, 2))[item, system]
    score = np.clip(np.round(good + rng.normal(0, 0.7, len(item))), 1, 5)
    return CriterionScores.of(
        [f"s{k}" for k in system], item.tolist(), rater.tolist(), ["tone"] * len(item), score.tolist()
    )


def _expected(mean: float, likes: Floats) -> float:
    good = mean + np.sqrt(2) * 0.7 * NORMAL
    return float(np.mean([np.clip(np.round(good + like), 1, 5).mean() for like in likes]))


def scores_hold(items: int, raters: int, *, apart: bool, mean: float = 3.2) -> Draw:
    """Return the event that the interval of a system's mean score, or of the difference of two, covers the
    truth for these raters.
    """
    likes = np.linspace(-0.5, 0.5, raters) if raters > 1 else np.zeros(1)
    first, second = _expected(mean, likes), _expected(mean - 0.4, likes)

    def happens(rng: np.random.Generator) -> bool | None:
        scores = _scores(rng, items, raters, np.array([mean, mean - 0.4]), likes)
        if apart:
            return holds(compute_criterion_differences(scores, "s0", "s1")["tone"], first - second)
        return holds(compute_criterion_means(scores)["s0", "tone"], first)

    return happens


def passes_hold(items: int, raters: int, odds: float) -> Draw:
    """Return the event that the interval of the pass rate covers the truth, for raters who mostly agree."""
    truth = float(special.expit(odds + 2 * NORMAL).mean())

    def happens(rng: np.random.Generator) -> bool | None:
        item = np.repeat(np.arange(items), raters)
        passed = rng.random(len(item)) < special.expit(odds + 2 * rng.normal(0, 1, items)[item])
        rater = np.tile(np.arange(raters), items)
        passes = Passes.of(["s"] * len(item), item.tolist(), rater.tolist(), passed.tolist())
        return holds(compute_pass_rates(passes)["s"], truth)

    return happens


def _rate(name: str, draw: Draw, high: float = HIGH) -> Rate:
    return Rate("shares", name, 0.95, LOW, high, draw, DRAWS)


RATES = [
    *(_rate(f"share of wins covers, {name}", wins_hold(round_)) for name, round_ in ROUNDS.items()),
    *(_rate(f"{figure} cover, {shape}, {items} items", voted_holds(shape, items, figure), RARE_HIGH)
      for shape in ("telling prompts shown", "third vote on disputed prompts")
      for items in (20, 67, 300) for figure in ("wins", "ties", "score")),
    *(_rate(f"share of both bad covers, {name}", bad_hold(round_), RARE_HIGH)
      for name, round_ in ROUNDS.items()),
    *(_rate(f"effect of the side covers, {effect:g}, {items} items", side_holds(effect, items))
      for effect, items in ((0.0, 30), (0.6, 100))),
    *(_rate(f"mean score covers, {items} items, {raters} raters", scores_hold(items, raters, apart=False))
      for items, raters in ((10, 1), (30, 3), (100, 2))),
    _rate("mean score near the top covers, 30 items", scores_hold(30, 2, apart=False, mean=4.4)),
    *(_rate(f"difference of scores covers, {items} items, {raters} raters",
            scores_hold(items, raters, apart=True)) for items, raters in ((10, 1), (30, 3), (100, 2))),
    *(_rate(f"pass rate covers, {items} items, {raters} raters", passes_hold(items, raters, odds))
      for items, raters, odds in ((15, 1, 1.0), (30, 3, 1.5), (100, 2, 3.0))),
]  # fmt: skip
