"""The verdict on a run, its loss curves, interpolated models, and single rows and items from Parquet."""

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
    """Generalization gap at one step: loss on training rows compared with loss on validation rows."""

    step: int
    train: Estimate  # mean loss on a fixed probe of training rows
    validation: Estimate  # mean loss on validation rows
    gap: Estimate  # validation minus training loss
    relative: Estimate  # gap as a share of the validation loss
    growth: Estimate | None  # growth of the gap since the first step; null at the first step
    level: GapLevel  # level of the relative gap


@dataclass(kw_only=True)
class MetricDivergence:
    """A disagreement between the loss and the task's metric between two steps."""

    kind: Literal["metric_improves", "metric_falls"]
    from_step: int
    to_step: int
    metric: Estimate  # change of the metric
    loss: Estimate | None  # rise of the validation loss; null if it fell
    sentence: str


@dataclass(kw_only=True)
class Overfitting:
    """Whether validation loss rose after its best step, and the stage in which the run ended."""

    state: OverfittingState
    since_step: int | None  # step from which it significantly overfits or, if diverged, the loss stays high
    best_step: int | None  # step with the lowest validation loss
    last_step: int | None
    rise: Estimate | None  # rise of the validation loss from best to last step, in the unit of the loss
    gl: float | None  # generalization loss of the last validation, percent
    pq: float | None  # generalization loss divided by training progress, percent over per mille
    sentence: str
    stage: Stage | None  # null, and the next fields empty, for older runs without stages
    stage_sentence: str = ""
    gap: list[GapPoint] = field(default_factory=list)  # one per step at which training rows were measured
    gap_sentence: str = ""  # empty if there is no point
    parting: MetricDivergence | None
    baseline_sentence: str | None = None  # for a classifier, compared with the majority-class baseline


@dataclass(kw_only=True)
class MetricPoint(Estimate):
    """The task's metric at one step, with its 95% interval over rows."""

    step: int


VerdictState = Literal["learned", "better", "shape", "undecided", "no_gain", "worse"]


@dataclass(kw_only=True)
class TrainingStop:
    """How training ended; `mixed` denotes a model that was not trained."""

    reason: StopReason
    step: int
    restored_step: int | None  # step whose weights were kept


@dataclass(kw_only=True)
class GainParts:
    """The gain on held-out rows in two parts, total = shape + question. Shape is what a row's answer gains
    after the prompts of other rows, question is what its own prompt adds. In the unit of the gain; for
    pairs, in rewards.
    """

    total: Estimate
    shape: Estimate
    question: Estimate
    unit: str
    pairs: int  # answers paired with the prompt of another row
    same: int  # pairs whose two rows have the same answer: true pairs that count as swapped
    left_out: int  # held-out rows without a similar row, which are in none of the parts


@dataclass(kw_only=True)
class LossFigures:
    """Loss and accuracy of one model on held-out rows; null if NaN or if the task doesn't have it."""

    loss: float | None  # in the unit of the gain
    perplexity: float | None
    token_accuracy: float | None
    n: int  # rows
    tokens: int  # for pairs, their number; for a head, the rows with a loss
    accuracy: float | None = None  # accuracy of a classification head
    f1_macro: float | None = None


@dataclass(kw_only=True)
class PreferenceFigures:
    """Tuned model compared with the base model on held-out pairs."""

    moved: int | None = None  # pairs whose margin is not 0
    reward_accuracy: Estimate  # share of pairs in which the chosen answer gained over the rejected one
    reward_margin: Estimate  # mean reward margin
    chosen_change: Estimate  # change of the chosen answer's log-probability, nats per answer
    rejected_change: Estimate


@dataclass(kw_only=True)
class RunReference:
    """Id and name of a run."""

    run_id: str
    name: str


@dataclass(kw_only=True)
class Verdict:
    """Verdict on a run. Parts that the task lacks or that were not measured are missing or null."""

    task: Literal["dpo"] | None = None
    state: VerdictState  # whether the gain matters, its sign, and whether it is due to the question
    headline: str
    sentences: list[str]
    advice: list[AdviceItem]
    gain: Gain | None  # null if the tuned loss is NaN
    parts: GainParts | None = None  # null if rows have no prompts, or if not measured
    accuracy_gain: UnitEstimate | None = None  # tuned minus base; not for preference tuning
    base: LossFigures
    tuned: LossFigures
    overfitting: Overfitting | None  # null for a model that was not trained
    stopped: TrainingStop
    membership: Membership | None = None
    extraction: Extraction | None = None  # instruction tuning only
    duplicates: DuplicateEffect | None = None  # instruction tuning only
    canaries: CanaryEvaluation | None = None  # null if no canaries were inserted
    preference: PreferenceFigures | None = None  # preference tuning only
    classification: Classification | None = None  # for a classification head, or if answers are labels
    forgetting: Forgetting | None = None  # if probes were measured
    weights: WeightChange | None = None
    continued_from: RunReference | None = None  # the run whose model is this run's base model


@dataclass(kw_only=True)
class RunFigure:
    """A figure of a run's verdict; low and high are null if it has no interval."""

    key: str  # unique within the run
    title: str
    unit: str
    value: float
    low: float | None  # lower end of the 95% interval
    high: float | None
    n: int


@dataclass(kw_only=True)
class MeasuredEstimate(Estimate):
    """An estimate with its standard error."""

    se: float | None
    detectable: float | None  # smallest difference detectable with this many rows at 80% power


@dataclass(kw_only=True)
class SharePoint:
    """One interpolation share α: its gain on the rows that the run was judged on, and its cost elsewhere."""

    alpha: float
    seconds: float | None = None  # measuring time; null if taken from the verdict
    loss: MeasuredEstimate  # nats per token
    gain: MeasuredEstimate  # loss reduction relative to α = 0, nats per token
    text: TextForgetting | None  # plain prose, relative to α = 0
    choices: ChoiceForgetting | None
    named: list[TextForgetting | ChoiceForgetting]  # user-named data sets and tasks
    kl: Estimate | None  # on the base model's own samples, nats per token
    state: ForgettingState


@dataclass(kw_only=True)
class RecommendedShare:
    """The smallest share that preserves 90% of the best gain."""

    recommended: float | None  # null if no share gains significantly
    sentence: str


@dataclass(kw_only=True)
class Interpolation(RecommendedShare):
    """Result of an interpolate job."""

    run_id: str
    split: JudgingSplit
    points: list[SharePoint]


@dataclass(kw_only=True)
class LikelyLabel:
    """One of a classifier's most likely labels."""

    label: str
    probability: float


@dataclass(kw_only=True)
class ClassPrediction:
    """A run's classification of a held-out row."""

    split: str
    row_id: int
    label: str
    predicted: str
    probability: float
    label_probability: float | None  # null for a label not seen in training
    top: list[LikelyLabel]  # the five most likely
    prompted: str | None  # label given by the prompted base model; null if it was not prompted
    prompted_probability: float | None


@dataclass(kw_only=True)
class ExtractionRow:
    """A row that base and tuned model were prompted to complete from memory; from `recalled.parquet`."""

    part: Literal["train", "held_out"]
    row_id: int
    prompt: str
    prefix: str  # the beginning of the answer, given to the model
    reference: str
    tokens: int
    base: str
    base_same: int  # tokens before the first mismatch
    base_whole: bool  # generation was not stopped early for deviating
    base_similarity: float
    tuned: str
    tuned_same: int
    tuned_whole: bool
    tuned_similarity: float


@dataclass(kw_only=True)
class ProbeQuestion:
    """A choice item of a probe, and the options chosen by base and tuned model."""

    probe: str
    item: str
    category: str
    text: str
    options: list[str]
    right: int  # index of the right option
    base: int | None  # index of the chosen option
    tuned: int | None
    rise: float  # rise in the loss of the right option, nats


@dataclass(kw_only=True)
class MatrixChange:
    """Change of one weight matrix."""

    name: str
    layer: int | None
    module: str
    shape: list[int]
    weight_norm: float
    delta_norm: float
    relative: float
    stable_rank: float | None
    effective_rank: float | None
    intruders: int | None  # leading singular directions unlike any of the base model's
    strongest: int | None  # number of leading directions examined


@dataclass(kw_only=True)
class RefusalRow:
    """A request that a model should refuse or a similar harmless one, and both models' responses."""

    pair: int
    category: str
    harmful: bool
    text: str
    base: str
    tuned: str
    base_refused: bool
    tuned_refused: bool
