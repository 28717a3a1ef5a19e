"""What an interpolate job leaves: a model at several shares of the way from base to tuned."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from store.documents.figures.estimate import Estimate
from store.documents.verdicts.classification import JudgingSplit
from store.documents.verdicts.forgetting import ForgettingState, ForgottenChoices, ForgottenText


class MeasuredEstimate(Estimate):
    """An estimate with its standard error."""

    se: float | None
    detectable: float | None  # the smallest difference that so many rows would show in 80 of 100 cases


class SharePoint(TypedDict):
    """One share α of the way: what it gains on the rows that judged the run, and what it costs elsewhere."""

    alpha: float
    seconds: NotRequired[float | None]  # of measuring it; null for what the verdict knew
    loss: MeasuredEstimate  # nats a token
    gain: MeasuredEstimate  # nats a token below α = 0
    text: ForgottenText | None  # plain prose, against α = 0
    choices: ForgottenChoices | None
    named: list[ForgottenText | ForgottenChoices]  # data sets and tasks that the user named
    kl: Estimate | None  # on the base model's own texts, nats a token
    state: ForgettingState


class RecommendedShare(TypedDict):
    """The smallest share that keeps 90% of the best gain."""

    recommended: float | None  # null where none gains surely
    sentence: str


class Interpolation(RecommendedShare):
    """The result of an interpolate job."""

    run_id: str
    split: JudgingSplit
    points: list[SharePoint]
