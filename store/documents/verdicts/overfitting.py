"""Where a run ended, and how its losses and its task's metric went on the way."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from store.documents.figures.estimate import Estimate

OverfittingState = Literal["none", "overfits", "diverged", "unclear"]
Stage = Literal["learning", "converged", "overfitting", "memorising", "diverged", "unclear"]
GapLevel = Literal["red", "amber", "green", "unclear"]


class GapPoint(TypedDict):
    """How much better a model is at one step on rows that it trains on than on validation rows."""

    step: int
    train: Estimate  # mean loss on a fixed probe of training rows
    validation: Estimate  # mean loss on validation rows
    gap: Estimate  # validation minus training loss
    relative: Estimate  # share of the validation loss that the gap is
    growth: Estimate | None  # of the gap since the first step; null at that one
    level: GapLevel  # by the relative gap


class Parting(TypedDict):
    """Loss and the task's metric say different things between two steps."""

    kind: Literal["metric_improves", "metric_falls"]
    from_step: int
    to_step: int
    metric: Estimate  # change of the metric
    loss: Estimate | None  # rise of the validation loss; null where it fell
    sentence: str


class Overfitting(TypedDict):
    """Whether validation loss rose after its best step, and the stage that the run ended in."""

    state: OverfittingState
    since_step: int | None  # from which on it surely overfits, or its loss stays up where it diverged
    best_step: int | None  # of the lowest validation loss
    last_step: int | None
    rise: Estimate | None  # of the validation loss from the best to the last step, in the unit of the loss
    gl: float | None  # generalisation loss of the last validation, per cent
    pq: float | None  # generalisation loss over training progress, per cent over per mille
    sentence: str
    stage: Stage | None  # null, as what follows is empty, in runs from before stages were told apart
    stage_sentence: str
    gap: list[GapPoint]  # at each step that a probe of training rows was measured at
    gap_sentence: str  # empty without a point
    parting: Parting | None
    baseline_sentence: NotRequired[str]  # of a classifier, beside always the most frequent class


class MetricPoint(Estimate):
    """The task's metric at one step, with its 95% interval over rows."""

    step: int
