"""The verdict on a run: what was gained, how sure that is, what it cost, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict, cast

from store.documents.figures.estimate import Estimate
from store.documents.models.saved_model import StopReason
from store.documents.verdicts.classification import Classification, JudgingSplit
from store.documents.verdicts.forgetting import AdvicePiece, Forgetting, UnitEstimate, WeightChange
from store.documents.verdicts.memorisation import CanaryEvidence, DuplicateEffect, Extraction, Membership
from store.documents.verdicts.overfitting import Overfitting

VerdictState = Literal["learned", "better", "shape", "undecided", "no_gain", "worse"]


class Stopped(TypedDict):
    """How training ended; `mixed` is a model that was not trained."""

    reason: StopReason
    step: int
    restored_step: int | None  # whose weights were kept


class Gain(Estimate):
    """Base minus tuned loss on the held-out rows; low, high and detectable are null where the rows can't give
    them, and `why` says so."""

    unit: str
    split: JudgingSplit
    detectable: float | None  # the smallest gain that so many rows would show in 80 of 100 cases
    negligible: NotRequired[float]  # share of the base loss within which nothing was gained
    chosen_of: NotRequired[int]  # validations of which the judged step is the best on the same rows


class GainParts(TypedDict):
    """The gain on held-out rows in two parts, total = shape + question: what a row's answer gains after the
    prompts of other rows, and what its own prompt adds. In the unit of the gain, of pairs in rewards."""

    total: Estimate
    shape: Estimate
    question: Estimate
    unit: str
    pairs: int  # answers after a prompt of another row
    same: int  # of them those whose two rows have the same answer: true pairs that count as swapped
    left_out: int  # held-out rows without a like one, which are in none of the parts


class LossFigures(TypedDict):
    """One model on the held-out rows; null is what is not a number, or what the task doesn't have."""

    loss: float | None  # in the unit of the gain
    perplexity: float | None
    token_accuracy: float | None
    n: int  # rows
    tokens: int  # of pairs their number, of a head the rows that have a loss
    accuracy: NotRequired[float]  # share of rows right, of a classification head
    f1_macro: NotRequired[float]


class PreferenceFigures(TypedDict):
    """Of held-out pairs, the tuned model against the base model."""

    moved: NotRequired[int]  # pairs whose margin is not 0
    reward_accuracy: Estimate  # share of pairs in which the chosen answer gained on the rejected one
    reward_margin: Estimate  # mean margin of rewards
    chosen_change: Estimate  # of the log-probability of the chosen answer, nats an answer
    rejected_change: Estimate


class RunName(TypedDict):
    """A run by its id and name."""

    run_id: str
    name: str


class Verdict(TypedDict):
    """What a run came to. Parts that a task lacks, or that were not measured, are missing or null; read with
    `read_verdict` they are all there."""

    task: NotRequired[Literal["dpo"] | None]
    state: VerdictState  # whether the gain matters, its sign, and whether it is the question's
    headline: str
    sentences: list[str]
    advice: list[AdvicePiece]
    gain: Gain | None  # null where the tuned loss is not a number
    parts: NotRequired[GainParts | None]  # null where rows have no prompts, or it was not measured
    accuracy_gain: NotRequired[UnitEstimate | None]  # tuned minus base; not of preference tuning
    base: LossFigures
    tuned: LossFigures
    overfitting: Overfitting | None  # null of a model that was not trained
    stopped: Stopped
    membership: NotRequired[Membership | None]
    extraction: NotRequired[Extraction | None]  # of instruction tuning
    duplicates: NotRequired[DuplicateEffect | None]  # of instruction tuning
    canaries: NotRequired[CanaryEvidence | None]  # null where none were planted
    preference: NotRequired[PreferenceFigures | None]  # of preference tuning
    classification: NotRequired[Classification | None]  # of a head, or of answers that are labels
    forgetting: NotRequired[Forgetting | None]  # where probes were measured
    weights: NotRequired[WeightChange | None]
    continued_from: NotRequired[RunName | None]  # the run whose model is the base model here


PARTS = (
    "task", "gain", "parts", "accuracy_gain", "overfitting", "membership", "extraction", "duplicates",
    "canaries", "preference", "classification", "forgetting", "weights", "continued_from",
)  # fmt: skip
# of runs from before stages were told apart
STAGELESS: dict[str, Any] = {
    "stage": None,
    "stage_sentence": "",
    "gap": [],
    "gap_sentence": "",
    "parting": None,
}


def read_verdict(document: Mapping[str, Any] | None) -> Verdict | None:
    """A verdict as a store holds it, of whatever age, with every part: null where the run has none. None for
    a run without a verdict."""
    if not document:
        return None
    verdict = dict.fromkeys(PARTS) | dict(document)
    if verdict["overfitting"]:
        verdict["overfitting"] = STAGELESS | dict(verdict["overfitting"])
    if verdict["membership"]:
        verdict["membership"] = {"path": [], "path_sentence": ""} | dict(verdict["membership"])
    return cast(Verdict, verdict)  # what a store holds was written as one, but for what is filled in here
