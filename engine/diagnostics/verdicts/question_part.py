"""What of a gain is the question: how much less the same answers gain after the prompts of other rows.

A model that was tuned on shuffled labels gains as much as one on true labels, as anything learns which
answers there are and how often. So each held-out answer i is given to the prompts of other rows j, too, and
with the losses b (base) and t (tuned) of answer i after prompt j, means over j of a row:

    gain      = b(i, i) - t(i, i)
    shape     = b(i, j) - t(i, j)                                    what any prompt gives
    question  = [t(i, j) - t(i, i)] - [b(i, j) - b(i, i)]            what the row's own prompt adds

gain = shape + question, row by row. Prompts are permuted among like rows (as many turns, the same system
prompt, about as long), each prompt once in a round, so that where answers have nothing to do with prompts the
question is 0 in expectation: which prompt is whose is then chance. A prompt whose own answer is the same is
avoided as far as a permutation can; where it can't be, a true pair counts as a swapped one, which makes the
question smaller and never larger, and is counted.

A row stands in the figure twice: its answer after others' prompts, its prompt before others' answers. So what
one row does is what leaving it out in both roles does (`_both_roles`), and the jackknife over that is the
interval (`ratio_interval`). Pure: arrays in, intervals out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.diagnostics.statistics.statistics import Interval, ratio_interval
from engine.diagnostics.verdicts.held_out import Array, DealtPrompts, OtherPrompts, Places

ROUNDS = 3  # prompts of other rows to each answer
MIN_PROMPTS = 2  # with one alone nobody can tell what the prompt did from what the answer did
MAX_ROWS = 200  # held-out rows that are asked: what is asked of each is asked of both models
BLOCK = 40  # rows of like length at least, among which prompts are permuted
OWN, SAME, AGAIN = 100.0, 10.0, 1.0  # how bad a pair is: own prompt, a prompt with the same answer, a repeat


def rounds_of(rows: int) -> float:
    """How many answers after prompts of others are asked for each of so many held-out rows, at most."""
    return ROUNDS * min(1.0, MAX_ROWS / max(1, rows))


def deal_prompts(
    answers: ArrayLike,
    groups: ArrayLike,
    lengths: ArrayLike,
    seed: int,
    fits: Callable[[int, int], bool] = lambda answer, prompt: True,
) -> DealtPrompts:
    """Prompts of other rows for each row. answers: equal numbers are equal answers; groups: rows that may
    exchange prompts; lengths: of the prompts. fits: whether the answer of one row goes after the prompt of
    another."""
    keys, kinds, sizes = np.asarray(answers), np.asarray(groups), np.asarray(lengths)
    rng = np.random.default_rng(seed)
    dealt: list[tuple[int, int]] = []
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        rows = rows[np.argsort(sizes[rows], kind="stable")]
        for block in np.array_split(rows, max(1, len(rows) // BLOCK)):
            dealt += _of_block(block, keys[block], rng)
    dealt = _enough([pair for pair in dealt if fits(*pair)])
    pairs = np.array(dealt, np.int64).reshape(-1, 2)
    same = int((keys[pairs[:, 0]] == keys[pairs[:, 1]]).sum())
    return DealtPrompts(pairs[:, 0], pairs[:, 1], same, len(keys) - len(np.unique(pairs[:, 0])))


def _of_block(rows: Places, keys: NDArray[np.generic], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Different prompts of other rows for each row, by permutations."""
    count = len(rows)
    if count <= MIN_PROMPTS:
        return []
    cost = np.where(keys[:, None] == keys[None, :], SAME, 0.0)
    np.fill_diagonal(cost, OWN)
    pairs: dict[tuple[int, int], None] = {}
    for _ in range(ROUNDS):
        prompts = _permuted(cost, rng)
        for place in range(count):
            if place != prompts[place]:
                pairs[int(rows[place]), int(rows[prompts[place]])] = None
        cost[np.arange(count), prompts] += AGAIN
    return list(pairs)


def _permuted(cost: Array, rng: np.random.Generator) -> Places:
    """A permutation by chance, whose bad pairs exchange their prompts as long as that makes it better. Where
    a row has a prompt with its own answer and two others could take both, such an exchange is there, so that
    as few of them are left as can be."""
    count = len(cost)
    prompts = rng.permutation(count)
    every = np.arange(count)
    for _ in range(count):
        bad = np.flatnonzero(cost[every, prompts] > 0)
        moved = False
        for place in rng.permutation(bad):
            now = cost[place, prompts[place]] + cost[every, prompts]
            then = cost[place, prompts] + cost[every, prompts[place]]
            better = now - then
            better[place] = 0
            if (best := float(better.max())) > 0:
                other = int(rng.choice(np.flatnonzero(better == best)))
                prompts[place], prompts[other] = prompts[other], prompts[place]
                moved = True
        if not moved:
            break
    return prompts


def _enough(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Without rows that have too few prompts, in both of their roles."""
    while pairs:
        asked, counts = np.unique([answer for answer, _ in pairs], return_counts=True)
        whole = set(asked[counts >= MIN_PROMPTS].tolist())
        kept = [pair for pair in pairs if whole.issuperset(pair)]
        if len(kept) == len(pairs):
            break
        pairs = kept
    return pairs


@dataclass(frozen=True)
class MeasuredParts:
    """The gain on the rows that were asked, and its two parts."""

    total: Interval
    shape: Interval
    question: Interval


def measure_parts(
    tokens: Array, base: Array, tuned: Array, others: OtherPrompts, *, confidence: float = 0.95
) -> MeasuredParts | None:
    """base and tuned: losses of each held-out row under its own prompt. None where nothing was asked, or a
    loss is not finite."""
    dealt, losses = others.dealt, others.losses
    under = np.asarray(losses.base, np.float64) - np.asarray(losses.tuned, np.float64)
    asked = np.bincount(dealt.answers, minlength=len(tokens)) > 0
    gain = np.where(asked, base - tuned, 0.0)
    weights = np.where(asked, tokens, 0.0)
    if not weights.any() or not (np.isfinite(under).all() and np.isfinite(gain).all()):
        return None
    shape = _both_roles(under, dealt, len(tokens))
    total, any_prompt, own_prompt = (
        ratio_interval(sums, weights, confidence=confidence) for sums in (gain, shape, gain - shape)
    )
    return MeasuredParts(total, any_prompt, own_prompt)


def _both_roles(values: Array, dealt: DealtPrompts, count: int) -> Array:
    """For each row the mean of its answer's values over prompts, and what else goes when the row is left out:
    a prompt among those of others, whose means it then no longer moves. These sum to 0 over rows, so that the
    estimate stays, and its jackknife leaves rows out in both roles."""
    answers, prompts = dealt.answers, dealt.prompts
    counts = np.bincount(answers, minlength=count)
    means = np.bincount(answers, values, minlength=count) / np.maximum(counts, 1)
    moved = (values - means[answers]) / (counts[answers] - 1)
    summed: Array = means + np.bincount(prompts, moved, minlength=count)
    return summed
