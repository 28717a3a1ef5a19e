"""What a model does when only a name, a pronoun or a group is another one; base beside tuned."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from store.documents.figures.estimate import Estimate

BiasAnswer = Literal["worse", "better", "no_worse", "cant_tell"]


class BiasFigure(TypedDict):
    """One measure of one probe, over all groups or for one.

    `change` is tuned minus base over the same items, in the direction where more is more bias. `worse`: its
    interval lies above 0; `no_worse`: it lies below `limit`.
    """

    probe: str  # built-in, or the file's name
    kind: str  # counterfactual, stereotype_pairs, coreference, ambiguous_choice, group_gap, toxicity
    measure: str
    group: str  # empty: over all
    base: Estimate | None
    tuned: Estimate
    change: Estimate | None
    limit: float
    answer: BiasAnswer
    unit: str
    why: NotRequired[str]  # an answer can't be given


class BiasReport(TypedDict):
    """All figures of one bias check, and the sentence that sums them up."""

    figures: list[BiasFigure]
    worse: int  # figures
    cant_tell: int
    sentence: str
    limits: list[str]  # of what these probes can say, a sentence each
