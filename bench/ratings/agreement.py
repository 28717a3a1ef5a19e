"""Coverage of alpha and kappa, and of a metric's agreement with people."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bench.made.shapes.draws import choose_by_weight
from bench.made.voted import toss
from bench.ratings import HIGH, LOW, holds
from bench.truths import Rate
from engine.evaluation.statistics.clustered import RatingClusters
from engine.evaluation.statistics.intervals import Interval
from engine.rating.analysis.agreement import cohen_kappa, compute_kappas
from engine.rating.analysis.comparisons import Comparisons
from engine.rating.analysis.krippendorff_alpha import Level, compute_alpha, compute_outcome_alpha

Draw = Callable[[np.random.Generator], bool | None]
Ints = NDArray[np.int64]
DRAWS = 1_000
ENDLESS = 200_000
# Concentration of items (small: all agree), and the mix of answers.
ITEMS = {
    "fair agreement": (2.0, (0.4, 0.4, 0.2)),
    "good agreement": (0.5, (0.4, 0.4, 0.2)),
    "hardly any": (8.0, (0.4, 0.4, 0.2)),
    "one answer common": (0.5, (0.75, 0.15, 0.1)),
}
GRADES = {"grades, fair agreement": (2.0, (0.1, 0.2, 0.3, 0.3, 0.1)), "grades, good": (0.5, (0.2,) * 5)}


def _mixes(rng: np.random.Generator, kind: str, items: int) -> NDArray[np.float64]:
    """Draw the probability of each answer for each item."""
    sure, base = ITEMS[kind]
    return rng.dirichlet(sure * np.array(base), items)


def _given(rng: np.random.Generator, mixes: NDArray[np.float64], raters: int) -> Ints:
    """Draw the answers [raters, items]."""
    ends = mixes.cumsum(axis=1)
    return (rng.random((raters, len(mixes)))[:, :, None] > ends[None, :, :-1]).sum(axis=2).astype(np.int64)


def _answers(rng: np.random.Generator, kind: str, items: int, raters: int) -> Ints:
    """Draw the answers [raters, items]. Each item has its own answer probabilities; grades are of adjacent
    values.
    """
    sure, base = {**ITEMS, **GRADES}[kind]
    if kind in GRADES:
        middle = rng.choice(len(base), items, p=base)
        off = rng.normal(0, sure / 2 + 0.3, (raters, items))
        return np.clip(np.round(middle + off), 0, len(base) - 1).astype(np.int64)
    return _given(rng, _mixes(rng, kind, items), raters)


def _alpha(answers: Ints, level: Level, resamples: int = 1_000) -> Interval:
    items = np.tile(np.arange(answers.shape[1]), answers.shape[0])
    return compute_alpha(answers.ravel(), items, level=level, resamples=resamples).interval


@cache
def _true_alpha(kind: str, level: Level) -> float:
    return float(_alpha(_answers(np.random.default_rng(0), kind, ENDLESS, 2), level, 2).value)


def alpha_holds(kind: str, items: int, raters: int, level: Level) -> Draw:
    """Return the event that the interval of alpha covers the truth, for this number of items and raters per
    item.
    """

    def happens(rng: np.random.Generator) -> bool | None:
        return holds(_alpha(_answers(rng, kind, items, raters), level), _true_alpha(kind, level))

    return happens


@cache
def _true_kappa(kind: str, of: int) -> float | None:
    return cohen_kappa(*_answers(np.random.default_rng(0), kind, ENDLESS, 2))[of].value


def kappa_holds(kind: str, items: int, *, of: int = 0) -> Draw:
    """Return the event that the interval of Cohen's kappa, or with `of` 1 of the share in agreement, covers
    the truth.
    """

    def happens(rng: np.random.Generator) -> bool | None:
        return holds(cohen_kappa(*_answers(rng, kind, items, 2))[of], _true_kappa(kind, of))

    return happens


def measure_holds(items: int, raters: int, *, of: int) -> Draw:
    """Return the event that the interval of a measure's kappa (0) or share in agreement (1) covers the truth,
    with several raters per item.
    """

    def drawn(rng: np.random.Generator, size: int, people: int) -> tuple[Ints, Ints, RatingClusters]:
        answers = _answers(rng, "fair agreement", size, people + 1)
        item, rater = np.tile(np.arange(size), people), np.repeat(np.arange(people), size)
        return np.tile(answers[0], people), answers[1:].ravel(), RatingClusters(item, rater)

    @cache
    def truth() -> float | None:
        first, second, _ = drawn(np.random.default_rng(0), ENDLESS, 1)
        return cohen_kappa(first, second)[of].value

    def happens(rng: np.random.Generator) -> bool | None:
        return holds(cohen_kappa(*drawn(rng, items, raters))[of], truth())

    return happens


def tossing_holds(shape: str, items: int, models: int, raters: int = 2) -> Draw:
    """Return the event that the interval of alpha covers 0 for raters who answer at random."""

    def happens(rng: np.random.Generator) -> bool | None:
        return holds(compute_outcome_alpha(toss(rng, shape, items, models, raters)).interval, 0.0)

    return happens


def _compared(answers: Ints, **more: object) -> Comparisons:
    """Return each rater's answers about two models; negative ones are missing."""
    rater, item = np.nonzero(answers >= 0)
    names = np.array(["left", "right", "tie"])
    return Comparisons.of(
        ["a"] * len(item), ["b"] * len(item), names[answers[rater, item]].tolist(), item.tolist(),
        rater.tolist(), adjudication=rater == 2, **{name: np.asarray(of)[item] for name, of in more.items()},
    )  # fmt: skip


def _agreement(comparisons: Comparisons, figure: str) -> Interval:
    agreed = (
        compute_outcome_alpha(comparisons) if figure == "alpha" else compute_kappas(comparisons).of_pairs[0]
    )
    return agreed.interval


@cache
def _true(kind: str, figure: str) -> float:
    answers = _answers(np.random.default_rng(0), kind, ENDLESS // 10, 2)
    return float(_alpha(answers, "nominal", 2).value if figure == "alpha" else cohen_kappa(*answers)[0].value)


def third_vote_holds(kind: str, items: int, figure: str) -> Draw:
    """Return the event that the interval covers the truth if a third person votes where two disagree."""

    def happens(rng: np.random.Generator) -> bool | None:
        answers = _answers(rng, kind, items, 3)
        answers[2, answers[0] == answers[1]] = -1
        return holds(_agreement(_compared(answers), figure), _true(kind, figure))

    return happens


def telling_holds(kind: str, items: int, figure: str) -> Draw:
    """Return the event that the interval covers the truth if prompts on which raters disagree are more likely
    to be rated, by up to a factor of ten.
    """

    def happens(rng: np.random.Generator) -> bool | None:
        mixes = _mixes(rng, kind, 4 * items)
        telling = 0.1 + (1 - mixes.max(axis=1)) * rng.uniform(0.5, 1, len(mixes))
        picked, inclusion = choose_by_weight(rng, np.minimum(telling, 3 * telling.mean()), items)
        compared = _compared(_given(rng, mixes[picked], 2), weights=1 / inclusion)
        return holds(_agreement(compared, figure), _true(kind, figure))

    return happens


RATES = [
    *(Rate("agreement", f"coins for {models} models, {shape}, {items} prompts: alpha holds 0", 0.95, LOW,
           0.98, tossing_holds(shape, items, models), DRAWS)
      for shape in ("every pair of each prompt", "every pair of each prompt, a third ties",
                    "raters lean to the answer shown first")
      for models, items in ((2, 20), (3, 20), (4, 20), (8, 20), (2, 100), (4, 100))),
    *(Rate("agreement", f"{figure} covers where a third one is asked, {kind}, {items} items", 0.95, LOW, 0.98,
           third_vote_holds(kind, items, figure), DRAWS)
      for figure in ("alpha", "kappa") for kind in ("fair agreement", "good agreement")
      for items in (20, 100)),
    *(Rate("agreement", f"{figure} covers where telling items are rated, {kind}, {items} items", 0.95, LOW,
           0.98, telling_holds(kind, items, figure), DRAWS)
      for figure in ("alpha", "kappa") for kind in ("fair agreement", "good agreement")
      for items in (30, 100, 300)),
    *(Rate("agreement", f"alpha covers, {kind}, {items} items, {raters} raters", 0.95, LOW, 0.98,
           alpha_holds(kind, items, raters, "nominal"), DRAWS)
      for kind in ITEMS for items, raters in ((20, 2), (50, 3), (200, 2))),
    *(Rate("agreement", f"alpha of ranks covers, {kind}, {items} items, {raters} raters", 0.95, LOW, 0.98,
           alpha_holds(kind, items, raters, "ordinal"), DRAWS)
      for kind in GRADES for items, raters in ((20, 2), (50, 3))),
    *(Rate("agreement", f"kappa covers, {kind}, {items} items", 0.95, LOW, HIGH,
           kappa_holds(kind, items), 2_000)
      for kind in ITEMS for items in (20, 50, 200)),
    *(Rate("agreement", f"{what} of a measure with people covers, {items} items, {raters} people", 0.95, LOW,
           HIGH, measure_holds(items, raters, of=of), DRAWS)
      for of, what in enumerate(("kappa", "share")) for items, raters in ((30, 2), (100, 3))),
]  # fmt: skip
