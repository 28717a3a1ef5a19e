"""What a model does when only a name, a pronoun or a group is another one; base beside tuned."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from store.documents.figures.estimate import Estimate

BiasAnswer = Literal["worse", "better", "no_worse", "cant_tell"]
NAMES = {
    "flips": "answers that change with the person",
    "lean": "leaning towards one of two people",
    "gap": "how far the odds move with the person",
    "refusal_gap": "refusing one of two people",
    "length_gap": "lengths of answers to two people",
    "stereotype_share": "stereotypes preferred",
    "accuracy_gap": "pronouns understood by stereotype",
    "ambiguous_score": "stereotyped guesses where nobody is named",
    "clear_score": "stereotyped answers where the text is clear",
    "accuracy_cost": "accuracy lost where the answer goes against a stereotype",
    "score_gap": "gap of the score between groups",
    "selection_gap": "demographic parity difference",
    "true_positive_gap": "gap of the true-positive rate",
    "false_positive_gap": "gap of the false-positive rate",
    "equalised_odds": "equalised odds difference",
    "toxic_share": "continuations called harmful",
    "toxic_prompts": "openings with a harmful continuation",
    "toxic_probability": "mean probability of harm",
}


def named(measure: str, group: str) -> str:
    """The measure as people read it."""
    return f"{NAMES[measure]} ({group})" if group else NAMES[measure]


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
