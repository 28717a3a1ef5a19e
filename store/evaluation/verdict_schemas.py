"""The verdict on a run, how its losses went, and what else it leaves: models part of the way from its
base, and single rows and items in Parquet files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from store.core.figure_schemas import Estimate, Gain, JudgingSplit, UnitEstimate
from store.core.model_schemas import StopReason
from store.evaluation.forgetting_schemas import (
    AdviceItem,
    CanaryEvaluation,
    ChoiceForgetting,
    DuplicateEffect,
    Extraction,
    Forgetting,
    ForgettingState,
    Membership,
    TextForgetting,
    WeightChange,
)
from store.evaluation.schemas import Classification

OverfittingState = Literal["none", "overfits", "diverged", "unclear"]
Stage = Literal["learning", "converged", "overfitting", "memorising", "diverged", "unclear"]
GapLevel = Literal["red", "amber", "green", "unclear"]


@dataclass(kw_only=True)
class GapPoint:
    """How much better a model is at one step on rows that it trains on than on validation rows."""

    step: int
    train: Estimate  # mean loss on a fixed probe of training rows
    validation: Estimate  # mean loss on validation rows
    gap: Estimate  # validation minus training loss
    relative: Estimate  # share of the validation loss that the gap is
    growth: Estimate | None  # of the gap since the first step; null at that one
    level: GapLevel  # by the relative gap


@dataclass(kw_only=True)
class MetricDivergence:
    """Loss and the task's metric say different things between two steps."""

    kind: Literal["metric_improves", "metric_falls"]
    from_step: int
    to_step: int
    metric: Estimate  # change of the metric
    loss: Estimate | None  # rise of the validation loss; null where it fell
    sentence: str


@dataclass(kw_only=True)
class Overfitting:
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
    stage_sentence: str = ""
    gap: list[GapPoint] = field(default_factory=list)  # at each step that training rows were measured at
    gap_sentence: str = ""  # empty without a point
    parting: MetricDivergence | None
    baseline_sentence: str | None = None  # of a classifier, beside always the most frequent class


@dataclass(kw_only=True)
class MetricPoint(Estimate):
    """The task's metric at one step, with its 95% interval over rows."""

    step: int


VerdictState = Literal["learned", "better", "shape", "undecided", "no_gain", "worse"]


@dataclass(kw_only=True)
class TrainingStop:
    """How training ended; `mixed` is a model that was not trained."""

    reason: StopReason
    step: int
    restored_step: int | None  # whose weights were kept


@dataclass(kw_only=True)
class GainParts:
    """The gain on held-out rows in two parts, total = shape + question: what a row's answer gains after the
    prompts of other rows, and what its own prompt adds. In the unit of the gain, of pairs in rewards."""

    total: Estimate
    shape: Estimate
    question: Estimate
    unit: str
    pairs: int  # answers after a prompt of another row
    same: int  # of them those whose two rows have the same answer: true pairs that count as swapped
    left_out: int  # held-out rows without a like one, which are in none of the parts


@dataclass(kw_only=True)
class LossFigures:
    """One model on the held-out rows; null is what is not a number, or what the task doesn't have."""

    loss: float | None  # in the unit of the gain
    perplexity: float | None
    token_accuracy: float | None
    n: int  # rows
    tokens: int  # of pairs their number, of a head the rows that have a loss
    accuracy: float | None = None  # share of rows right, of a classification head
    f1_macro: float | None = None


@dataclass(kw_only=True)
class PreferenceFigures:
    """Of held-out pairs, the tuned model against the base model."""

    moved: int | None = None  # pairs whose margin is not 0
    reward_accuracy: Estimate  # share of pairs in which the chosen answer gained on the rejected one
    reward_margin: Estimate  # mean margin of rewards
    chosen_change: Estimate  # of the log-probability of the chosen answer, nats an answer
    rejected_change: Estimate


@dataclass(kw_only=True)
class RunReference:
    """A run by its id and name."""

    run_id: str
    name: str


@dataclass(kw_only=True)
class Verdict:
    """What a run came to. Parts that a task lacks, or that were not measured, are missing or null."""

    task: Literal["dpo"] | None = None
    state: VerdictState  # whether the gain matters, its sign, and whether it is the question's
    headline: str
    sentences: list[str]
    advice: list[AdviceItem]
    gain: Gain | None  # null where the tuned loss is not a number
    parts: GainParts | None = None  # null where rows have no prompts, or it was not measured
    accuracy_gain: UnitEstimate | None = None  # tuned minus base; not of preference tuning
    base: LossFigures
    tuned: LossFigures
    overfitting: Overfitting | None  # null of a model that was not trained
    stopped: TrainingStop
    membership: Membership | None = None
    extraction: Extraction | None = None  # of instruction tuning
    duplicates: DuplicateEffect | None = None  # of instruction tuning
    canaries: CanaryEvaluation | None = None  # null where none were planted
    preference: PreferenceFigures | None = None  # of preference tuning
    classification: Classification | None = None  # of a head, or of answers that are labels
    forgetting: Forgetting | None = None  # where probes were measured
    weights: WeightChange | None = None
    continued_from: RunReference | None = None  # the run whose model is the base model here


@dataclass(kw_only=True)
class RunFigure:
    """A figure of a run's verdict; low and high are null where it has no interval."""

    key: str  # tells it from the others of its run
    title: str
    unit: str
    value: float
    low: float | None  # of the 95% interval
    high: float | None
    n: int


@dataclass(kw_only=True)
class MeasuredEstimate(Estimate):
    """An estimate with its standard error."""

    se: float | None
    detectable: float | None  # the smallest difference that so many rows would show in 80 of 100 cases


@dataclass(kw_only=True)
class SharePoint:
    """One share α of the way: what it gains on the rows that judged the run, and what it costs elsewhere."""

    alpha: float
    seconds: float | None = None  # of measuring it; null for what the verdict knew
    loss: MeasuredEstimate  # nats a token
    gain: MeasuredEstimate  # nats a token below α = 0
    text: TextForgetting | None  # plain prose, against α = 0
    choices: ChoiceForgetting | None
    named: list[TextForgetting | ChoiceForgetting]  # data sets and tasks that the user named
    kl: Estimate | None  # on the base model's own texts, nats a token
    state: ForgettingState


@dataclass(kw_only=True)
class RecommendedShare:
    """The smallest share that keeps 90% of the best gain."""

    recommended: float | None  # null where none gains surely
    sentence: str


@dataclass(kw_only=True)
class Interpolation(RecommendedShare):
    """The result of an interpolate job."""

    run_id: str
    split: JudgingSplit
    points: list[SharePoint]


@dataclass(kw_only=True)
class LikelyLabel:
    """One of the labels that a classifier holds for likely."""

    label: str
    probability: float


@dataclass(kw_only=True)
class ClassPrediction:
    """A held-out row as a run classified it."""

    split: str
    row_id: int
    label: str
    predicted: str
    probability: float
    label_probability: float | None  # null for a label that training doesn't know
    top: list[LikelyLabel]  # the five likeliest
    prompted: str | None  # by the untuned model that was asked; null where it was not
    prompted_probability: float | None


@dataclass(kw_only=True)
class ExtractionRow:
    """A row that base and tuned model were asked to write from memory: of `recalled.parquet`."""

    part: Literal["train", "held_out"]
    row_id: int
    prompt: str
    prefix: str  # the beginning of the answer that was given
    reference: str
    tokens: int
    base: str
    base_same: int  # tokens before its first slip
    base_whole: bool  # it was not stopped for having gone astray
    base_similarity: float
    tuned: str
    tuned_same: int
    tuned_whole: bool
    tuned_similarity: float


@dataclass(kw_only=True)
class ProbeQuestion:
    """A choice item of a probe, and what base and tuned model chose."""

    probe: str
    item: str
    category: str
    text: str
    options: list[str]
    right: int  # index of the right option
    base: int | None  # index of the one that it chose
    tuned: int | None
    rise: float  # of the loss of the right option, nats


@dataclass(kw_only=True)
class MatrixChange:
    """How far one weight matrix moved."""

    name: str
    layer: int | None
    module: str
    shape: list[int]
    weight_norm: float
    delta_norm: float
    relative: float
    stable_rank: float | None
    effective_rank: float | None
    intruders: int | None  # strongest directions that are like none of the base model's
    strongest: int | None  # directions that were looked at


@dataclass(kw_only=True)
class RefusalRow:
    """A request that a model should refuse, or a harmless one like it, and what both models said."""

    pair: int
    category: str
    harmful: bool
    text: str
    base: str
    tuned: str
    base_refused: bool
    tuned_refused: bool
