"""Paired measurements of the base and the tuned model: held-out rows and probe items.

Both models saw the same rows and items. Items that one of them lacks, or that have no number, are left out
and counted, never silently ignored. Pure functions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from store.core.figure_schemas import JudgingSplit

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


class ModelRows(NamedTuple):
    """One model on each row: summed loss in nats, and the number of trained tokens that were its first
    choice; for a classifier 1 if its class is right.
    """

    loss_sum: ArrayLike
    correct: ArrayLike


@dataclass(frozen=True)
class PromptAssignment:
    """Assignment of prompts to answers, one entry per pair: the row of the answer and the row of the prompt,
    as indices into the held-out rows. same: pairs whose two rows have the same answer. left_out: rows with
    an answer that were not used for lack of similar ones.
    """

    answers: Indices
    prompts: Indices
    same: int
    left_out: int

    def __len__(self) -> int:
        return len(self.answers)


class SwappedLosses(NamedTuple):
    """Losses of both models on each pair of `PromptAssignment`, in the unit of the rows' own losses."""

    base: ArrayLike
    tuned: ArrayLike


class SwappedPromptLosses(NamedTuple):
    """Held-out answers after prompts of other rows, and both models' losses on them."""

    dealt: PromptAssignment
    losses: SwappedLosses


@dataclass(frozen=True)
class HeldOut:
    """Both models on the same rows, one entry each.

    tokens: trained ones; for a classifier 1 if the row's label is in the training data, otherwise 0.
    population: tokens of the training rows, which show how unequal rows of this kind are; None if unknown.
    other_prompts: of the same rows; otherwise why it was not measured, empty if rows have no prompts.
    """

    split: JudgingSplit
    row_ids: ArrayLike
    tokens: ArrayLike
    base: ModelRows
    tuned: ModelRows
    population: ArrayLike | None = field(default=None, kw_only=True)
    other_prompts: SwappedPromptLosses | str = field(default="", kw_only=True)

    @property
    def weights(self) -> Floats:
        """Tokens as floats."""
        return np.asarray(self.tokens, np.float64)

    @property
    def losses(self) -> tuple[Floats, Floats]:
        """Losses of the base and of the tuned model. Raises ValueError if rows, losses and tokens differ in
        length.
        """
        base, tuned = (np.asarray(model.loss_sum, np.float64) for model in (self.base, self.tuned))
        if not len(np.asarray(self.row_ids)) == len(base) == len(tuned) == len(self.weights):
            raise ValueError("Held-out rows, losses and tokens differ in length.")
        return base, tuned


class ModelPairs(NamedTuple):
    """One model on each pair: its loss, the reward margin, and the log-probabilities of both answers
    in nats.
    """

    losses: Floats
    margins: Floats
    chosen_logps: Floats
    rejected_logps: Floats


@dataclass(frozen=True)
class HeldOutPairs:
    """Both models on the same pairs of answers. other_prompts: as in `HeldOut`; the loss is the rejected
    answer's log-probability minus the chosen one's.
    """

    split: JudgingSplit
    base: ModelPairs
    tuned: ModelPairs
    other_prompts: SwappedPromptLosses | str = ""


# Rows of probes, paired by item between two models.
#
# A probe is a named set of items measured on a model at a step; one row per item, whatever the kind: `probe`,
# `item`, `category`, `loss_sum` (nats), `tokens`, `correct`, `options` (0 for a text) and `chosen`.

CHOICES, PROSE, OWN_SAMPLES, TASK_SAMPLES = "choices", "prose", "own_samples", "task_samples"
REQUESTS = "requests"  # `correct` is whether it was refused
DATA, TASK = "data/", "task/"  # named by the user: data sets, and tasks of lm-evaluation-harness
OPEN_ENDED = 2**31 - 1  # options of an item with a free-form answer: none is right by luck
NAMES = {CHOICES: "questions", PROSE: "plain prose"}
FIGURES = ("loss_sum", "tokens", "correct")


@dataclass(frozen=True)
class PairedProbe:
    """One probe under both models; arrays have one entry per item.

    base and tuned: {loss_sum, tokens, correct}. unpaired: items that only one model has. unscored: items
    whose loss is not a number, texts without tokens and questions with one option, which are left out;
    broken: those of them that the base model could score.
    """

    name: str
    items: list[str]
    category: NDArray[np.str_]
    options: NDArray[np.int64]
    base: dict[str, Floats]
    tuned: dict[str, Floats]
    unpaired: int
    unscored: int
    broken: int

    @property
    def is_choice(self) -> bool:
        """Whether items have options to choose from, rather than texts."""
        return bool(self.options.any()) if len(self.options) else self.name == CHOICES

    def of(self, category: str) -> NDArray[np.bool_]:
        """Return the mask of items of that category."""
        chosen: NDArray[np.bool_] = self.category == category
        return chosen


def is_users_probe(probe: str) -> bool:
    """Return whether the user named the probe, as opposed to a part of the suite."""
    return probe.startswith((DATA, TASK))


def format_probe_title(probe: str) -> str:
    """Return the probe's name for a sentence."""
    return NAMES.get(probe, probe.removeprefix(DATA).removeprefix(TASK))


def format_item_name(probe: str) -> str:
    """Return the name of the probe's items."""
    if probe.startswith(TASK):
        return "item"
    if probe.startswith(DATA):
        return "row"
    return "question" if probe == CHOICES else "passage"


def pair_probes(base: pa.Table, tuned: pa.Table) -> dict[str, PairedProbe]:
    """Pair every probe that both tables have, by name, in the order of the base model's rows."""
    names = list(dict.fromkeys(base["probe"].to_pylist()))
    there = set(tuned["probe"].to_pylist())
    return {
        name: _pair_probe(name, _read_rows(base, name), _read_rows(tuned, name))
        for name in names
        if name in there
    }


def _read_rows(table: pa.Table, probe: str) -> dict[str, list[Any]]:
    chosen = np.asarray(table["probe"].to_pylist(), dtype=str) == probe
    return {name: table[name].filter(pa.array(chosen)).to_pylist() for name in table.column_names}


def _pair_probe(name: str, base: dict[str, list[Any]], tuned: dict[str, list[Any]]) -> PairedProbe:
    first = {item: place for place, item in enumerate(base["item"])}
    second = {item: place for place, item in enumerate(tuned["item"])}
    items = [item for item in first if item in second]
    here, there = [first[i] for i in items], [second[i] for i in items]
    figures = [
        {key: np.asarray([rows[key][p] for p in places], np.float64) for key in FIGURES}
        for rows, places in ((base, here), (tuned, there))
    ]
    if not np.array_equal(figures[0]["tokens"], figures[1]["tokens"]):
        raise ValueError(f"Items of the probe {name} have other tokens under the two models.")
    options = np.asarray([base["options"][p] or 0 for p in here], np.int64)
    asked = options >= 2 if options.any() else options == 0
    scored = asked & np.isfinite(figures[0]["loss_sum"]) & (figures[0]["tokens"] > 0)
    good = scored & np.isfinite(figures[1]["loss_sum"])
    return PairedProbe(
        name,
        [item for item, ok in zip(items, good, strict=True) if ok],
        np.asarray([base["category"][p] or "" for p in here], dtype=str)[good],
        options[good],
        {key: values[good] for key, values in figures[0].items()},
        {key: values[good] for key, values in figures[1].items()},
        len(set(first) ^ set(second)),
        int((~good).sum()),
        int((scored & ~good).sum()),
    )
