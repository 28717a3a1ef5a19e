"""The question's part of a gain: how much less the same answers gain after the prompts of other rows.

A model tuned on shuffled labels gains too, as anything learns which answers exist. A gain counts as
learned if what the row's own prompt adds is distinguishable from 0 and matters; otherwise it is shape, or
inconclusive. Figures come first, then what a verdict says about them. Pure functions.
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

# Decomposition of the gain. A model tuned on shuffled labels gains as much as one on true labels, as anything
# learns which answers exist and how often. So each held-out answer i is also evaluated after the prompts of
# other rows j, and with the losses b (base) and t (tuned) of answer i after prompt j, averaged over j for a
# row:
#
#   gain      = b(i, i) - t(i, i)
#   shape     = b(i, j) - t(i, j)                                    what any prompt gives
#   question  = [t(i, j) - t(i, i)] - [b(i, j) - b(i, i)]            what the row's own prompt adds
#
# gain = shape + question, row by row. Prompts are permuted among similar rows (same number of turns and
# system prompt, similar length), each prompt once per round, so that if answers are unrelated to prompts the
# expected question part is 0: which prompt belongs to which row is then random. A prompt whose own answer is
# the same is avoided as far as a permutation allows; otherwise a true pair counts as a swapped one, which
# makes the question part smaller, never larger, and is counted.
#
# A row enters the figure twice: with its answer after others' prompts, and its prompt before others' answers.
# So the influence of a row is that of leaving it out in both roles (`_average_both_roles`), and the jackknife
# over that gives the interval (`ratio_interval`).

ROUNDS = 3  # prompts of other rows per answer
MIN_PROMPTS = 2  # with only one, effects of prompt and answer can't be separated
MAX_ROWS = 200  # maximum held-out rows, each evaluated on both models
BLOCK = 40  # minimum rows of similar length among which prompts are permuted
OWN, SAME, AGAIN = 100.0, 10.0, 1.0  # costs of a pair: own prompt, prompt with the same answer, repeat


def count_rounds(rows: int) -> float:
    """Return the maximum number of answers after other prompts per held-out row, for this many rows."""
    return ROUNDS * min(1.0, MAX_ROWS / max(1, rows))


def assign_prompts(
    answers: ArrayLike,
    groups: ArrayLike,
    lengths: ArrayLike,
    seed: int,
    fits: Callable[[int, int], bool] = lambda answer, prompt: True,
) -> PromptAssignment:
    """Assign prompts of other rows to each row.

    answers: equal numbers are equal answers; groups: rows that may exchange prompts; lengths: of the
    prompts. fits: whether the answer of one row fits after the prompt of another.
    """
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
    """Assign different prompts of other rows to each row, by permutations."""
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
    """Return a random permutation in which bad pairs exchange their prompts as long as that is an
    improvement.

    If a row has a prompt with its own answer and two others could take both, such an exchange exists, so
    that as few of them as possible remain.
    """
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
    """Drop rows with too few prompts, in both of their roles."""
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
    """Gain on the measured rows, and its two parts."""

    total: Interval
    shape: Interval
    question: Interval


def measure_parts(
    tokens: Floats, base: Floats, tuned: Floats, others: SwappedPromptLosses, *, confidence: float = 0.95
) -> GainDecomposition | None:
    """Measure the parts of the gain. base and tuned: losses of each held-out row under its own prompt. None
    if nothing was measured, or a loss is not finite.
    """
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
    """Return for each row the mean of its answer's values over prompts, plus what else goes if the row is
    left out: its prompt among those of others, whose means it then no longer changes.

    These additions sum to 0 over rows, so that the estimate is unchanged, and its jackknife leaves rows
    out in both roles.
    """
    answers, prompts = dealt.answers, dealt.prompts
    counts = np.bincount(answers, minlength=count)
    means = np.bincount(answers, values, minlength=count) / np.maximum(counts, 1)
    moved = (values - means[answers]) / (counts[answers] - 1)
    summed: Floats = means + np.bincount(prompts, moved, minlength=count)
    return summed


# The question's part in a verdict: its state, sentences, document and advice.
#
# A significant gain is "learned" if what the row's own prompt adds is significant as well and matters. If
# that part is negligible with certainty the gain is "shape": the tuned model knows which answers exist, but
# not which belongs to which question. If that is inconclusive, or was not measured, it is "better".

NEGLIGIBLE_SHARE = 0.1  # share of a gain below which the part is negligible
MIN_SURE = 60  # rows; among fewer, a twentieth of rows that all of it comes from may be missing


@dataclass(frozen=True)
class PartWords:
    """A task's names for its parts: what any prompt gives, a gain of `total` in words, the same for a gain
    that is not certain, its unit, and what about the question was not learned.
    """

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
    gained="Of the gain of {total} nats a pair of chosen over rejected answers",
    changed="Of the change of {total} nats a pair of chosen answers against rejected ones",
    unit="nats a pair",
    unlearned="which answer fits the question",
)


@dataclass(frozen=True)
class PromptPartVerdict:
    """The verdict's view of the question's part. parts and others are None if nothing was measured, for the
    reason `why`, which is empty if there is no question. limit: up to which the question's part doesn't
    matter.
    """

    parts: GainDecomposition | None
    others: SwappedPromptLosses | None
    why: str
    limit: float
    words: PartWords

    def state(self, state: VerdictState) -> VerdictState:
        """Refine the state of a gain by the question's part."""
        if state != "learned" or not self._asked:
            return state
        if self._sure:
            return "learned"
        return "shape" if self.surely_small else "better"

    @property
    def _sure(self) -> bool:
        """Whether the question's part is significantly above 0 and may matter."""
        highest = self._highest
        return bool(self.parts and self.parts.question.above) and (highest is None or highest >= self.limit)

    @property
    def _asked(self) -> bool:
        """Whether rows have a question."""
        return bool(self.parts or self.why)

    @property
    def _highest(self) -> float | None:
        """Upper limit of the question's part, corrected for prompts from rows with the same answer; None if
        unknown.
        """
        if self.parts is None or self.others is None or self.parts.question.high is None:
            return None
        unlike = 1 - self.others.dealt.same / len(self.others.dealt)
        return self.parts.question.high / unlike if unlike else None

    @property
    def surely_small(self) -> bool:
        """Whether the question's part is negligible with certainty."""
        return self._small and self.parts is not None and self.parts.question.n >= MIN_SURE

    @property
    def _small(self) -> bool:
        """Whether the question's part is negligible on the measured rows."""
        highest = self._highest
        if self.parts is None or highest is None:
            return False
        return highest <= max(self.limit, NEGLIGIBLE_SHARE * self.parts.total.value)

    def lead(self, state: VerdictState) -> str:
        """Return the beginning of the headline of a certain gain."""
        if state == "shape":
            return f"Learned {self.words.shape}, not {self.words.unlearned}"
        if state != "better":
            return "Learned"
        if self.parts is None:
            return f"Better; whether it learned {self.words.unlearned} was not measured"
        return f"Better; whether it learned {self.words.unlearned} or just {self.words.shape} is unclear"

    @property
    def amount(self) -> str:
        """End of a headline: "; question-dependent: 0.02 (−0.1 to 0.1)"."""
        return f"; question-dependent: {_format_part(self.parts.question)}" if self.parts else ""

    @property
    def sentences(self) -> list[str]:
        """Sentences with the parts, their intervals and rows, or why there are none."""
        if self.parts is None or self.others is None:
            return (
                [f"The part of the gain that depends on the question was not measured: {self.why}."]
                if self.why
                else []
            )
        parts, dealt = self.parts, self.others.dealt
        places = formatting.compute_decimals(parts.total.low, parts.total.high)
        total = formatting.format_number(parts.total.value, places)
        after, own = (
            f"after {formatting.plural(len(dealt), 'prompt')} of other rows",
            _format_part(parts.question),
        )
        sentence = (
            f"{self.words.gained.format(total=total)} (n {parts.total.n:,}), {_format_part(parts.shape)} are"
            f" {self.words.shape}: this much is also gained {after}. Question-dependent: {own}."
        )
        if not parts.total.above:
            sentence = (
                f"{self.words.changed.format(total=total)} (minus is worse, n {parts.total.n:,}),"
                f" {_format_part(parts.shape)} also appear {after}. Question-dependent: {own}."
            )
        return [sentence, *self._caveats(parts, dealt)]

    def _caveats(self, parts: GainDecomposition, dealt: PromptAssignment) -> list[str]:
        caveats, question = [], parts.question
        few = question.n < MIN_SURE and question.low is not None
        if few and parts.total.above and not self._sure:  # without a gain the question doesn't arise
            caveats.append(
                "The interval of the question-dependent part applies to these"
                f" {formatting.plural(question.n, 'row')}: kinds of rows whose answer depends on the prompt"
                " may be missing among so few."
            )
        if dealt.same:
            caveats.append(
                f"Of these {formatting.plural(len(dealt), 'prompt')} {dealt.same:,} could only come from a"
                " row with the same answer, so the question-dependent part is underestimated rather than"
                " overestimated."
            )
        if dealt.left_out:
            rows = formatting.plural(dealt.left_out, "held-out row")
            has = "has" if dealt.left_out == 1 else "have"
            caveats.append(f"{rows} {has} no similar row to take a prompt from; excluded here.")
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
        """Return advice for a gain that is not due to the question."""
        if state not in ("shape", "better") or self.parts is None:
            return []
        question = self.parts.question
        lead = "Almost none of the gain is" if question.above else "No significant part of the gain is"
        text = (
            f"{lead} question-dependent: check that every answer belongs to its prompt, and that prompts"
            " contain what the answers depend on and are not truncated."
        )
        pieces: list[AdviceItem] = [AdviceItem(text=text, change={})]
        asked = question.n + (self.others.dealt.left_out if self.others else 0)
        if self.surely_small or question.low is None or asked >= MAX_ROWS:
            return pieces
        if self._small:
            held = advise_hold_out(MIN_SURE, question.n, split, config)
            text = f"{held.text}: {MIN_SURE} may show that the question adds nothing relevant."
            return [*pieces, replace(held, text=text)]
        return [*pieces, advise_more_rows(question, split, config, most=MAX_ROWS)]


def _format_part(part: Interval) -> str:
    """Format a part as "0.02 (−0.1 to 0.1)"."""
    if part.low is None or part.high is None:
        return f"{formatting.format_point_value(part.value)} (no interval: {part.why})"
    places = formatting.compute_decimals(part.low, part.high)
    return (
        f"{formatting.format_number(part.value, places)}"
        f" ({formatting.format_interval(part.low, part.high, places)})"
    )
