"""Votes of raters on responses of two or more models, and requests chosen for labelling."""

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

    truth: the mean outcome of a vote of these raters (or of all such raters, if the shape says so) on a
    prompt sampled from all, each prompt counting once. inclusion: the probability that the prompt was
    shown.
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
    """Draw outcomes with exactly these means. Requires |mean| <= 1 - ties."""
    tied = rng.random(len(means)) < ties
    ahead = draw_with(rng, (1 + means / (1 - ties)) / 2)
    return np.where(tied, 0, np.where(ahead, 1, -1)).astype(np.int64)


def _collect(
    items: Ints, raters: Ints, outcomes: Ints, truth: float, inclusion: Floats | None = None
) -> Votes:
    """Return votes on two models, 20 seconds apart, in the given order."""
    many = len(items)
    zeros = np.zeros(many, np.int64)
    return Votes(
        items, raters, 20.0 * np.arange(many, dtype=np.float64), zeros, zeros + 1, outcomes,
        np.ones(many) if inclusion is None else inclusion, truth,
    )  # fmt: skip


def _draw_blocks(
    raters: int, lean: float, of_these: bool, rng: np.random.Generator, items: int, preference: float
) -> Votes:
    """Draw raters one after another, each with a block of prompts and an individual bias.

    `of_these`: the biases cancel out over the votes cast, so that the truth is that of these raters.
    Otherwise it is that of the population from which they were drawn, and more prompts don't compensate
    for few raters.
    """
    who = np.arange(items) * raters // items
    leans = rng.uniform(-lean, lean, raters)[who] if not of_these else _cancel(rng, lean, raters, who)
    return _collect(np.arange(items), who, _vote(rng, preference + leans), preference)


def _cancel(rng: np.random.Generator, lean: float, raters: int, who: Ints) -> Floats:
    """Return biases in both directions whose mean over the votes is 0, in random order."""
    leans = rng.permutation(np.linspace(-lean, lean, raters))[who]
    return np.asarray(leans - leans.mean())


def _draw_crossed(raters: int, lean: float, rng: np.random.Generator, items: int, preference: float) -> Votes:
    """Draw raters one after another who each rate all prompts; prompts differ too."""
    leans = rng.permutation(np.linspace(-lean, lean, raters))
    of_item = rng.uniform(-0.3, 0.3, items)
    who, what = np.repeat(np.arange(raters), items), np.tile(np.arange(items), raters)
    return _collect(what, who, _vote(rng, preference + leans[who] + of_item[what], 0.1), preference)


def _draw_drift(by: float, rng: np.random.Generator, items: int, preference: float) -> Votes:
    """Change the preference by `by` from the first vote to the last, as raters learn what to look at."""
    means = preference + by * ((np.arange(items) + 0.5) / items - 0.5)
    return _collect(np.arange(items), np.zeros(items, np.int64), _vote(rng, means), preference)


def _draw_plain(ties: float, rng: np.random.Generator, items: int, preference: float) -> Votes:
    outcomes = _vote(rng, np.full(items, preference), ties)
    return _collect(np.arange(items), np.zeros(items, np.int64), outcomes, preference)


def _draw_telling(rng: np.random.Generator, items: int, preference: float) -> Votes:
    """Sample from four times as many prompts, preferring those on which the answers differ most.

    The first model does better on those, so the plain mean over the shown prompts is too high. The truth
    is over all.
    """
    own = rng.uniform(-0.4, 0.4, 4 * items)
    own -= own.mean()
    telling = 0.1 + np.clip(own + 0.4, 0, 0.8) * rng.uniform(0.5, 1, 4 * items)
    picked, inclusion = choose_by_weight(rng, telling, items)
    outcomes = _vote(rng, preference + own[picked], 0.1)
    return _collect(picked, np.arange(items) % 3, outcomes, preference, inclusion)


def _draw_disputed(rng: np.random.Generator, items: int, preference: float) -> Votes:
    """Draw two votes on each prompt, and a third if they differ: disputed prompts have more votes."""
    own = preference + rng.uniform(-0.5, 0.5, items)
    first, second = _vote(rng, own, 0.1), _vote(rng, own, 0.1)
    disputed = np.flatnonzero(first != second)
    every = np.arange(items)
    what = np.concatenate([every, every, disputed])
    who = np.repeat([0, 1, 2], [items, items, len(disputed)])
    return _collect(what, who, np.concatenate([first, second, _vote(rng, own[disputed], 0.1)]), preference)


# Each generates votes whose true mean outcome is the given number: up to ±0.3, an error beyond.
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
    """Draw votes of three raters in turn, who see no difference between the models, on all pairs of a prompt
    or on one.
    """
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
    """Let each rater in turn rank the answers to each prompt, so that the votes of a prompt are dependent.

    Raters see the same answers, so they agree more than by chance on which answer to a prompt is better.
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
    """Requests selected for labeling over several rounds. truth: the accuracy over all requests, `right`.

    chosen: indices of requests, each once. probabilities: of being selected in that round from those left
    by earlier rounds. disputed: labels on which two people differ.
    """

    right: Bools  # for all requests
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
    """Draw requests. Uncertain answers are more often wrong and selected; `disputed`: shares of right and of
    wrong ones.

    The accuracy must be at least 0.75, since a lower one leaves no room for uncertain answers.
    """
    uncertain = rng.beta(1.5, 4.5, requests)  # mean 1/4
    right = draw_with(rng, 1 - (1 - accuracy) * 4 * uncertain)
    left = np.arange(requests)
    chosen, probabilities = [], []
    for _ in range(rounds):
        seen = uncertain[left] * rng.uniform(0.5, 1, len(left))  # each round has a different model
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
