"""Votes of raters on answers of two models or more, and requests that were chosen for labelling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np

from bench.made.shapes.draws import Bools, Floats, Ints, choose_by_weight, draw_with

TIES = 0.2


@dataclass(frozen=True)
class Votes:
    """Votes in order of time: 1 for the first model, -1 for the second, 0 for neither.

    The truth is the mean outcome of a vote of these raters (or of all such, where the shape says so) on a
    prompt drawn from all, each counting once. `inclusion`: how probable it was that the prompt was shown.
    """

    items: Ints
    raters: Ints
    at: Floats
    first: Ints
    second: Ints
    outcomes: Ints
    inclusion: Floats
    truth: float


VotedShape = Callable[[np.random.Generator, int, float], Votes]
RoundShape = Callable[[np.random.Generator, int, int], Votes]


def _vote(rng: np.random.Generator, means: Floats, ties: float = TIES) -> Ints:
    """Outcomes with exactly these means, which |mean| <= 1 - ties allows."""
    tied = rng.random(len(means)) < ties
    ahead = draw_with(rng, (1 + means / (1 - ties)) / 2)
    return np.where(tied, 0, np.where(ahead, 1, -1)).astype(np.int64)


def _collect(
    items: Ints, raters: Ints, outcomes: Ints, truth: float, inclusion: Floats | None = None
) -> Votes:
    """Votes on two models, 20 seconds apart, in the order given."""
    many = len(items)
    zeros = np.zeros(many, np.int64)
    return Votes(
        items, raters, 20.0 * np.arange(many, dtype=np.float64), zeros, zeros + 1, outcomes,
        np.ones(many) if inclusion is None else inclusion, truth,
    )  # fmt: skip


def _draw_blocks(
    raters: int, lean: float, of_these: bool, rng: np.random.Generator, items: int, preference: float
) -> Votes:
    """Raters one after another, each on a block of prompts and with a lean of their own.

    `of_these`: leans cancel out over the votes cast: the truth is that of these raters. Without it it is that
    of the many from whom they were drawn, and more prompts don't make up for few raters.
    """
    who = np.arange(items) * raters // items
    leans = rng.uniform(-lean, lean, raters)[who] if not of_these else _cancel(rng, lean, raters, who)
    return _collect(np.arange(items), who, _vote(rng, preference + leans), preference)


def _cancel(rng: np.random.Generator, lean: float, raters: int, who: Ints) -> Floats:
    """Leans of both directions whose mean over votes is 0, in an order of chance."""
    leans = rng.permutation(np.linspace(-lean, lean, raters))[who]
    return np.asarray(leans - leans.mean())


def _draw_crossed(raters: int, lean: float, rng: np.random.Generator, items: int, preference: float) -> Votes:
    """Raters one after another, each of whom rates all prompts; prompts differ too."""
    leans = rng.permutation(np.linspace(-lean, lean, raters))
    of_item = rng.uniform(-0.3, 0.3, items)
    who, what = np.repeat(np.arange(raters), items), np.tile(np.arange(items), raters)
    return _collect(what, who, _vote(rng, preference + leans[who] + of_item[what], 0.1), preference)


def _draw_drift(by: float, rng: np.random.Generator, items: int, preference: float) -> Votes:
    """What raters prefer changes from first vote to last by `by`, as they learn what to look at."""
    means = preference + by * ((np.arange(items) + 0.5) / items - 0.5)
    return _collect(np.arange(items), np.zeros(items, np.int64), _vote(rng, means), preference)


def _draw_plain(ties: float, rng: np.random.Generator, items: int, preference: float) -> Votes:
    outcomes = _vote(rng, np.full(items, preference), ties)
    return _collect(np.arange(items), np.zeros(items, np.int64), outcomes, preference)


def _draw_telling(rng: np.random.Generator, items: int, preference: float) -> Votes:
    """Of four times as many prompts those are shown by preference on which answers differ most.

    The first model does better there: the plain mean of what was shown is too high. The truth is over all.
    """
    own = rng.uniform(-0.4, 0.4, 4 * items)
    own -= own.mean()
    telling = 0.1 + np.clip(own + 0.4, 0, 0.8) * rng.uniform(0.5, 1, 4 * items)
    picked, inclusion = choose_by_weight(rng, telling, items)
    outcomes = _vote(rng, preference + own[picked], 0.1)
    return _collect(picked, np.arange(items) % 3, outcomes, preference, inclusion)


def _draw_disputed(rng: np.random.Generator, items: int, preference: float) -> Votes:
    """Two votes on each prompt, and a third where those two differ: prompts in dispute have more votes."""
    own = preference + rng.uniform(-0.5, 0.5, items)
    first, second = _vote(rng, own, 0.1), _vote(rng, own, 0.1)
    disputed = np.flatnonzero(first != second)
    every = np.arange(items)
    what = np.concatenate([every, every, disputed])
    who = np.repeat([0, 1, 2], [items, items, len(disputed)])
    return _collect(what, who, np.concatenate([first, second, _vote(rng, own[disputed], 0.1)]), preference)


# Each makes votes whose true mean outcome is the number given: up to 0.3 either way, an error beyond.
VOTED: dict[str, VotedShape] = {
    "one rater": partial(_draw_plain, TIES),
    "one rater, no ties": partial(_draw_plain, 0.0),
    "one rater, 60% ties": partial(_draw_plain, 0.6),
    "3 raters one after another, truth of these": partial(_draw_blocks, 3, 0.3, True),
    "5 raters one after another, truth of these": partial(_draw_blocks, 5, 0.4, True),
    "3 raters one after another, truth of all such": partial(_draw_blocks, 3, 0.3, False),
    "10 raters one after another, truth of all such": partial(_draw_blocks, 10, 0.4, False),
    "3 raters one after another, each rates all": partial(_draw_crossed, 3, 0.3),
    "preference drifts up": partial(_draw_drift, 0.8),
    "preference drifts down": partial(_draw_drift, -0.8),
    "telling prompts shown": _draw_telling,
    "third vote on disputed prompts": _draw_disputed,
}


def _draw_round(
    ties: float, first_shown: float, one_pair: bool, rng: np.random.Generator, items: int, models: int
) -> Votes:
    """Votes of three raters in turn, for whom all models are alike, on each or on one pair of a prompt."""
    pairs = np.array(list(combinations(range(models), 2)))
    places = rng.integers(0, len(pairs), items) if one_pair else np.tile(np.arange(len(pairs)), items)
    what = np.arange(items) if one_pair else np.repeat(np.arange(items), len(pairs))
    sides = np.where(rng.random(len(places))[:, None] < 0.5, pairs[places], pairs[places][:, ::-1])
    outcomes = _vote(rng, np.full(len(places), first_shown), ties)
    return _collect_round(what, what % 3, sides, outcomes)


def _collect_round(what: Ints, who: Ints, sides: Ints, outcomes: Ints) -> Votes:
    at = 20.0 * np.arange(len(what), dtype=np.float64)
    return Votes(what, who, at, sides[:, 0], sides[:, 1], outcomes, np.ones(len(what)), 0.0)


def _draw_rankings(raters: int, rng: np.random.Generator, items: int, models: int) -> Votes:
    """Each rater in turn puts the answers to each prompt in an order: a prompt's votes hang together.

    Raters see the same answers, so that they agree more than by chance on which of a prompt's is better.
    """
    pairs = np.array(list(combinations(range(models), 2)))
    worth = np.tile(rng.normal(size=(items, models)), (raters, 1))
    worth = worth + rng.normal(size=worth.shape)
    order = np.repeat(np.arange(raters * items), len(pairs))
    sides = np.tile(pairs, (raters * items, 1))
    sides = np.where(rng.random(len(sides))[:, None] < 0.5, sides[:, ::-1], sides)
    ahead = worth[order, sides[:, 0]] > worth[order, sides[:, 1]]
    return _collect_round(order % items, order // items, sides, np.where(ahead, 1, -1).astype(np.int64))


# Called with prompts and models (2, 3, 4, 8): no model is better, so the truth of each pair is 0.
ROUNDS: dict[str, RoundShape] = {
    "every pair of each prompt": partial(_draw_round, 0.0, 0.0, False),
    "every pair of each prompt, a third ties": partial(_draw_round, 1 / 3, 0.0, False),
    "one pair of each prompt": partial(_draw_round, 0.0, 0.0, True),
    "raters lean to the answer shown first": partial(_draw_round, 0.1, 0.2, False),
    "models ranked": partial(_draw_rankings, 1),
    "models ranked by three": partial(_draw_rankings, 3),
}


@dataclass(frozen=True)
class LabelledRequests:
    """Requests chosen for a label over several rounds; the truth is the accuracy over all requests, `right`.

    `chosen` are places of requests, each once; `probabilities` those of being chosen in that round from what
    earlier rounds had left. A `disputed` label is one on which two people differ.
    """

    right: Bools  # of all requests
    chosen: Ints
    rounds: Ints
    probabilities: Floats
    disputed: Bools
    truth: float


def draw_labelled(
    rng: np.random.Generator,
    per_round: int,
    rounds: int,
    accuracy: float,
    requests: int = 5_000,
    disputed: tuple[float, float] = (0.05, 0.3),
) -> LabelledRequests:
    """Uncertain answers are more often wrong and chosen; `disputed`: shares of right and of wrong.

    An accuracy below 0.75 leaves no room for them.
    """
    uncertain = rng.beta(1.5, 4.5, requests)  # a mean of 1/4
    right = draw_with(rng, 1 - (1 - accuracy) * 4 * uncertain)
    left = np.arange(requests)
    chosen, probabilities = [], []
    for _ in range(rounds):
        seen = uncertain[left] * rng.uniform(0.5, 1, len(left))  # each round's model is another
        picked, probability = choose_by_weight(rng, 0.05 + seen, per_round)
        chosen.append(left[picked])
        probabilities.append(probability)
        left = np.delete(left, picked)
    places = np.concatenate(chosen)
    chance = np.where(right[places], *disputed)
    return LabelledRequests(
        right, places, np.repeat(np.arange(rounds), per_round), np.concatenate(probabilities),
        draw_with(rng, chance), float(right.mean()),
    )  # fmt: skip
