"""The question's part of a gain: how much less the same answers gain after the prompts of other rows.

A model that was tuned on shuffled labels gains too, as anything learns which answers there are. A gain
counts as learned where what the row's own prompt adds is told from 0 and matters; else it is shape, or
can't be told. Figures first, then what a verdict says of them. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.evaluation.statistics.intervals import Interval, ratio_interval
from engine.evaluation.training_curve.advice import advise_hold_out, advise_more_rows
from engine.evaluation.training_curve.run_curve import VerdictConfig
from engine.evaluation.verdicts.paired_measurements import (
    Floats,
    Indices,
    PromptAssignment,
    SwappedPromptLosses,
)
from store.core import formatting
from store.core.figure_schemas import JudgingSplit
from store.evaluation.forgetting_schemas import AdviceItem
from store.evaluation.verdict_schemas import GainParts, VerdictState

# What of a gain is the question: how much less the same answers gain after the prompts of other rows.
#
# A model that was tuned on shuffled labels gains as much as one on true labels, as anything learns which
# answers there are and how often. So each held-out answer i is given to the prompts of other rows j, too, and
# with the losses b (base) and t (tuned) of answer i after prompt j, means over j of a row:
#
# gain      = b(i, i) - t(i, i)
# shape     = b(i, j) - t(i, j)                                    what any prompt gives
# question  = [t(i, j) - t(i, i)] - [b(i, j) - b(i, i)]            what the row's own prompt adds
#
# gain = shape + question, row by row. Prompts are permuted among like rows (as many turns, the same system
# prompt, about as long), each prompt once in a round, so that where answers have nothing to do with prompts
# the question is 0 in expectation: which prompt is whose is then chance. A prompt whose own answer is the
# same is avoided as far as a permutation can; where it can't be, a true pair counts as a swapped one, which
# makes the question smaller and never larger, and is counted.
#
# A row stands in the figure twice: its answer after others' prompts, its prompt before others' answers. So
# what one row does is what leaving it out in both roles does (`_average_both_roles`), and the jackknife
# over that is the interval (`ratio_interval`). Pure: arrays in, intervals out.

ROUNDS = 3  # prompts of other rows to each answer
MIN_PROMPTS = 2  # with one alone nobody can tell what the prompt did from what the answer did
MAX_ROWS = 200  # held-out rows that are asked: what is asked of each is asked of both models
BLOCK = 40  # rows of like length at least, among which prompts are permuted
OWN, SAME, AGAIN = 100.0, 10.0, 1.0  # how bad a pair is: own prompt, a prompt with the same answer, a repeat


def count_rounds(rows: int) -> float:
    """How many answers after prompts of others are asked for each of so many held-out rows, at most."""
    return ROUNDS * min(1.0, MAX_ROWS / max(1, rows))


def assign_prompts(
    answers: ArrayLike,
    groups: ArrayLike,
    lengths: ArrayLike,
    seed: int,
    fits: Callable[[int, int], bool] = lambda answer, prompt: True,
) -> PromptAssignment:
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
            dealt += _assign_block(block, keys[block], rng)
    dealt = _drop_sparse_rows([pair for pair in dealt if fits(*pair)])
    pairs = np.array(dealt, np.int64).reshape(-1, 2)
    same = int((keys[pairs[:, 0]] == keys[pairs[:, 1]]).sum())
    return PromptAssignment(pairs[:, 0], pairs[:, 1], same, len(keys) - len(np.unique(pairs[:, 0])))


def _assign_block(
    rows: Indices, keys: NDArray[np.generic], rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Different prompts of other rows for each row, by permutations."""
    count = len(rows)
    if count <= MIN_PROMPTS:
        return []
    cost = np.where(keys[:, None] == keys[None, :], SAME, 0.0)
    np.fill_diagonal(cost, OWN)
    pairs: dict[tuple[int, int], None] = {}
    for _ in range(ROUNDS):
        prompts = _permute_prompts(cost, rng)
        for place in range(count):
            if place != prompts[place]:
                pairs[int(rows[place]), int(rows[prompts[place]])] = None
        cost[np.arange(count), prompts] += AGAIN
    return list(pairs)


def _permute_prompts(cost: Floats, rng: np.random.Generator) -> Indices:
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


def _drop_sparse_rows(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
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
class GainDecomposition:
    """The gain on the rows that were asked, and its two parts."""

    total: Interval
    shape: Interval
    question: Interval


def measure_parts(
    tokens: Floats, base: Floats, tuned: Floats, others: SwappedPromptLosses, *, confidence: float = 0.95
) -> GainDecomposition | None:
    """base and tuned: losses of each held-out row under its own prompt. None where nothing was asked, or a
    loss is not finite."""
    dealt, losses = others.dealt, others.losses
    under = np.asarray(losses.base, np.float64) - np.asarray(losses.tuned, np.float64)
    asked = np.bincount(dealt.answers, minlength=len(tokens)) > 0
    gain = np.where(asked, base - tuned, 0.0)
    weights = np.where(asked, tokens, 0.0)
    if not weights.any() or not (np.isfinite(under).all() and np.isfinite(gain).all()):
        return None
    shape = _average_both_roles(under, dealt, len(tokens))
    total, any_prompt, own_prompt = (
        ratio_interval(sums, weights, confidence=confidence) for sums in (gain, shape, gain - shape)
    )
    return GainDecomposition(total, any_prompt, own_prompt)


def _average_both_roles(values: Floats, dealt: PromptAssignment, count: int) -> Floats:
    """For each row the mean of its answer's values over prompts, and what else goes when the row is left out:
    a prompt among those of others, whose means it then no longer moves. These sum to 0 over rows, so that the
    estimate stays, and its jackknife leaves rows out in both roles."""
    answers, prompts = dealt.answers, dealt.prompts
    counts = np.bincount(answers, minlength=count)
    means = np.bincount(answers, values, minlength=count) / np.maximum(counts, 1)
    moved = (values - means[answers]) / (counts[answers] - 1)
    summed: Floats = means + np.bincount(prompts, moved, minlength=count)
    return summed


# What a verdict says of the question's part of a gain: its state by it, its words, its document, what to do.
#
# A gain that is told from noise is "learned" where what the row's own prompt adds is told from 0 as well
# and matters. Where that surely is as good as nothing it is "shape": the tuned model knows which answers
# there are, and not which belongs to which question. Where it can't be told, or was not measured, it is
# "better".

NEGLIGIBLE_SHARE = 0.1  # of a gain: what surely is less is as good as nothing of it
MIN_SURE = 60  # rows, under which one in twenty that all of it comes from may well be missing


@dataclass(frozen=True)
class PartWords:
    """How a task calls its parts: what any prompt gives, a gain of `total` in words, the same where it is no
    sure gain, its unit, and what of the question was not learned."""

    shape: str
    gained: str
    changed: str
    unit: str
    unlearned: str


ANSWER_WORDS = PartWords(
    shape="the shape of the answers",
    gained="Of the gain of {total} nats a token",
    changed="Of the change of {total} nats a token",
    unit="nats a token",
    unlearned="what the question asks",
)
PAIR_WORDS = PartWords(
    shape="the style of the preferred answers",
    gained="Of the {total} nats a pair by which chosen answers gained on rejected ones",
    changed="Of the change of {total} nats a pair of chosen answers against rejected ones",
    unit="nats a pair",
    unlearned="which answer fits the question",
)


@dataclass(frozen=True)
class PromptPartVerdict:
    """parts and others are None where nothing was measured, for the reason `why`, which is empty where there
    is no question. limit: up to which what the question adds doesn't matter."""

    parts: GainDecomposition | None
    others: SwappedPromptLosses | None
    why: str
    limit: float
    words: PartWords

    def state(self, state: VerdictState) -> VerdictState:
        """Of a gain with that state."""
        if state != "learned" or not self._asked:
            return state
        if self._sure:
            return "learned"
        return "shape" if self.surely_small else "better"

    @property
    def _sure(self) -> bool:
        """What the question adds is told from 0 and may matter."""
        highest = self._highest
        return bool(self.parts and self.parts.question.above) and (highest is None or highest >= self.limit)

    @property
    def _asked(self) -> bool:
        """Whether rows have a question."""
        return bool(self.parts or self.why)

    @property
    def _highest(self) -> float | None:
        """The most that the question may add: the upper end, had no prompt come from a row with the same
        answer. None where that can't be told."""
        if self.parts is None or self.others is None or self.parts.question.high is None:
            return None
        unlike = 1 - self.others.dealt.same / len(self.others.dealt)
        return self.parts.question.high / unlike if unlike else None

    @property
    def surely_small(self) -> bool:
        """What the question adds is nothing to speak of, and that is sure."""
        return self._small and self.parts is not None and self.parts.question.n >= MIN_SURE

    @property
    def _small(self) -> bool:
        """What the question adds is nothing to speak of on the rows that were asked."""
        highest = self._highest
        if self.parts is None or highest is None:
            return False
        return highest <= max(self.limit, NEGLIGIBLE_SHARE * self.parts.total.value)

    def lead(self, state: VerdictState) -> str:
        """How the headline of a sure gain begins."""
        if state == "shape":
            return f"Learned {self.words.shape}, not {self.words.unlearned}"
        if state != "better":
            return "Learned"
        if self.parts is None:
            return f"Better; whether it learned {self.words.unlearned} was not measured"
        return f"Better; whether it learned {self.words.unlearned} or just {self.words.shape} is unclear"

    @property
    def amount(self) -> str:
        """How a headline ends: "; from the question: 0.02 (−0.1 to 0.1)"."""
        return f"; from the question: {_format_part(self.parts.question)}" if self.parts else ""

    @property
    def sentences(self) -> list[str]:
        """The parts with their intervals and rows, or why there are none."""
        if self.parts is None or self.others is None:
            return [f"What of the gain is the question was not measured: {self.why}."] if self.why else []
        parts, dealt = self.parts, self.others.dealt
        places = formatting.compute_decimals(parts.total.low, parts.total.high)
        total = formatting.format_number(parts.total.value, places)
        after, own = (
            f"after {formatting.plural(len(dealt), 'prompt')} of other rows",
            _format_part(parts.question),
        )
        sentence = (
            f"{self.words.gained.format(total=total)} (n {parts.total.n:,}),"
            f" {_format_part(parts.shape)} are {self.words.shape}: as much is gained {after}."
            f" From the question: {own}."
        )
        if not parts.total.above:
            sentence = (
                f"{self.words.changed.format(total=total)} (minus is worse, n {parts.total.n:,}),"
                f" {_format_part(parts.shape)} came {after}, too. From the question: {own}."
            )
        return [sentence, *self._caveats(parts, dealt)]

    def _caveats(self, parts: GainDecomposition, dealt: PromptAssignment) -> list[str]:
        caveats, question = [], parts.question
        few = question.n < MIN_SURE and question.low is not None
        if few and parts.total.above and not self._sure:  # of what is no gain nobody asks whose it is
            caveats.append(
                f"The question's interval speaks of these {formatting.plural(question.n, 'row')}: a kind of"
                " row whose answer hangs on its prompt may be missing among so few."
            )
        if dealt.same:
            caveats.append(
                f"Of these {formatting.plural(len(dealt), 'prompt')} {dealt.same:,} could only come"
                " from a row"
                " with the same answer, so that the question's part is too small rather than too large."
            )
        if dealt.left_out:
            rows = formatting.plural(dealt.left_out, "held-out row")
            has = "has" if dealt.left_out == 1 else "have"
            caveats.append(f"{rows} {has} no like row to take a prompt from, and no part in this.")
        return caveats

    @property
    def document(self) -> GainParts | None:
        """`verdict["parts"]`."""
        if self.parts is None or self.others is None:
            return None
        parts, dealt = self.parts, self.others.dealt
        return GainParts(
            total=parts.total.to_estimate(),
            shape=parts.shape.to_estimate(),
            question=parts.question.to_estimate(),
            unit=self.words.unit,
            pairs=len(dealt),
            same=dealt.same,
            left_out=dealt.left_out,
        )

    def advice(self, state: VerdictState, split: JudgingSplit, config: VerdictConfig) -> list[AdviceItem]:
        """What to try where the gain is not the question's."""
        if state not in ("shape", "better") or self.parts is None:
            return []
        question = self.parts.question
        lead = "Hardly anything of the gain is" if question.above else "Nothing of the gain is surely"
        text = (
            f"{lead} from the question: look whether every answer belongs to its prompt, and whether prompts"
            " hold what the answers hang on and are not cut."
        )
        pieces: list[AdviceItem] = [AdviceItem(text=text, change={})]
        asked = question.n + (self.others.dealt.left_out if self.others else 0)
        if self.surely_small or question.low is None or asked >= MAX_ROWS:
            return pieces
        if self._small:
            held = advise_hold_out(MIN_SURE, question.n, split, config)
            text = f"{held.text}: {MIN_SURE} may show that the question adds nothing that matters."
            return [*pieces, replace(held, text=text)]
        return [*pieces, advise_more_rows(question, split, config, most=MAX_ROWS)]


def _format_part(part: Interval) -> str:
    """ "0.02 (−0.1 to 0.1)"."""
    if part.low is None or part.high is None:
        return f"{formatting.format_point_value(part.value)} (no interval: {part.why})"
    places = formatting.compute_decimals(part.low, part.high)
    return (
        f"{formatting.format_number(part.value, places)}"
        f" ({formatting.format_interval(part.low, part.high, places)})"
    )
