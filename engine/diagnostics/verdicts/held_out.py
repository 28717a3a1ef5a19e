"""What was measured of the base and of the tuned model on the held-out rows that judge a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store.documents.verdicts.classification import JudgingSplit

Array = NDArray[np.float64]
Places = NDArray[np.int64]


class ModelRows(NamedTuple):
    """One model on each row: summed loss in nats, and how many trained tokens were its first choice; of a
    classifier 1 where its class is right."""

    loss_sum: ArrayLike
    correct: ArrayLike


@dataclass(frozen=True)
class DealtPrompts:
    """One entry a pair: the row whose answer it is, and the row whose prompt, as places among the held-out
    rows. same: pairs whose two rows have the same answer. left_out: rows with an answer that were not asked,
    as there were no like ones."""

    answers: Places
    prompts: Places
    same: int
    left_out: int

    def __len__(self) -> int:
        return len(self.answers)


class SwappedLosses(NamedTuple):
    """What both models lose on each pair of `DealtPrompts`, in the unit of the rows' own losses."""

    base: ArrayLike
    tuned: ArrayLike


class OtherPrompts(NamedTuple):
    """Held-out answers after prompts of other rows, and what both models lose on them."""

    dealt: DealtPrompts
    losses: SwappedLosses


@dataclass(frozen=True)
class HeldOut:
    """Both models on the same rows, one entry each. tokens: trained ones; of a classifier 1 where training
    knows the row's label, 0 where not. population: tokens of the rows that were trained on, which say
    how unequal rows of this kind are; None where they aren't known. other_prompts: of the same rows; else why
    that was not measured, empty where rows have no prompts."""

    split: JudgingSplit
    row_ids: ArrayLike
    tokens: ArrayLike
    base: ModelRows
    tuned: ModelRows
    population: ArrayLike | None = field(default=None, kw_only=True)
    other_prompts: OtherPrompts | str = field(default="", kw_only=True)

    @property
    def weights(self) -> Array:
        """Tokens as numbers that can be calculated with."""
        return np.asarray(self.tokens, np.float64)

    @property
    def losses(self) -> tuple[Array, Array]:
        """Of the base and of the tuned model. Raises ValueError where rows, losses and tokens differ in
        length."""
        base, tuned = (np.asarray(model.loss_sum, np.float64) for model in (self.base, self.tuned))
        if not len(np.asarray(self.row_ids)) == len(base) == len(tuned) == len(self.weights):
            raise ValueError("Held-out rows, losses and tokens differ in length.")
        return base, tuned


class ModelPairs(NamedTuple):
    """One model on each pair: its loss, the margin of rewards, and the log-probabilities of both answers in
    nats."""

    losses: Array
    margins: Array
    chosen_logps: Array
    rejected_logps: Array


@dataclass(frozen=True)
class HeldOutPairs:
    """Both models on the same pairs of answers. other_prompts: as of `HeldOut`; the loss is the rejected
    answer's log-probability less the chosen one's."""

    split: JudgingSplit
    base: ModelPairs
    tuned: ModelPairs
    other_prompts: OtherPrompts | str = ""
