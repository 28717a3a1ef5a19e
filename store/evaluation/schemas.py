"""Evaluations in the store and the results of their jobs.

Covers figures and details of metrics, a judge's preferences, a classifier's results on held-out rows, and
simulations with known truth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict

from store.core.figure_schemas import Estimate, Figure, FigureSummary, JudgingSplit
from store.core.schemas import ConfigDocument


@dataclass(kw_only=True)
class ClassRates:
    """Metrics of one class; n counts its rows for recall, rows predicted as it for precision, and both for
    F1.
    """

    label: str
    n: int
    predicted: int
    precision: Estimate | None  # null if never predicted
    recall: Estimate | None  # null if no row has this class
    f1: Estimate


@dataclass(kw_only=True)
class CalibrationError:
    """Expected calibration error, and the value that chance alone stays below in 95% of cases."""

    value: float
    null: float
    n: int


@dataclass(kw_only=True)
class CalibrationBin:
    """Rows of similar confidence: mean confidence and accuracy."""

    confidence: float
    accuracy: float
    low: float | None
    high: float | None
    n: int


@dataclass(kw_only=True)
class CalibrationFigures:
    """Calibration of a classifier: whether its accuracy matches its confidence."""

    ece: CalibrationError
    brier: Estimate  # squared error over all classes, 0 to 2
    temperature: Estimate | None  # temperature with the lowest loss; null if the rows don't bound it
    overconfident: bool
    bins: list[CalibrationBin]


@dataclass(kw_only=True)
class ClassAverages:
    """Metrics of a classifier over all classes."""

    n: int
    accuracy: Estimate
    f1_macro: Estimate
    f1_weighted: Estimate


@dataclass(kw_only=True)
class ClassBreakdown:
    """Metrics per class, and the confusion matrix."""

    n: int
    class_count: int
    classes: list[ClassRates]  # the 200 largest
    confusion: list[tuple[str, str, int]]  # label, predicted, rows; the 400 largest
    pair_count: int  # number of nonzero cells


@dataclass(kw_only=True)
class ClassFigures(ClassBreakdown, ClassAverages):
    """Metrics of a classifier, over all classes and per class."""

    calibration: CalibrationFigures | None = None


@dataclass(kw_only=True)
class MajorityClass:
    """The most frequent class of the training rows."""

    label: str
    share: float
    n: int


@dataclass(kw_only=True)
class ClassModels:
    """Metrics of the tuned model, of the majority-class baseline, and of the base model prompted for the
    label.
    """

    tuned: ClassFigures
    majority: ClassAverages
    prompted: ClassAverages | None = None  # if the model can be prompted


@dataclass(kw_only=True)
class ClassConfusion:
    """Two classes that are confused with each other."""

    labels: list[str]
    rows: int
    forth: int  # rows of the first predicted as the second
    back: int


@dataclass(kw_only=True)
class Classification:
    """Results of a run as a classifier of held-out rows."""

    split: JudgingSplit
    class_count: int
    majority: MajorityClass
    unseen: int  # held-out rows with a label not seen in training
    models: ClassModels
    over_prompted: Estimate | None  # accuracy minus that of the prompted base model
    confused: list[ClassConfusion]


@dataclass(kw_only=True)
class EvaluationCounts:
    """Counts of incomplete rows; `rows` is the number of requested rows."""

    no_prompt: int
    no_reference: int
    no_loss: int
    cut: int  # rows truncated for the loss because they exceed the model's context
    empty: int  # empty answers
    rows: int


@dataclass(kw_only=True)
class GeneralFigure:
    """Result of the model on one of the suite's general probes."""

    probe: str
    suite: str  # fingerprint of questions and prose; results of different suites are never compared
    n: int  # items
    loss: Estimate  # nats per token; for choices, nats per item
    accuracy: Estimate | None = None  # for questions


@dataclass(kw_only=True)
class EvaluationDetails:
    """Results of an evaluation other than its figures."""

    probes: list[GeneralFigure]
    counts: EvaluationCounts
    reasons: dict[str, int]  # reason why rows could not be evaluated or have no loss -> count
    notices: list[str]
    seconds: dict[str, float]  # by stage: loading, losses, answers, choices, tasks, scoring, probes
    peak_memory_gib: float
    device: str
    device_name: str
    dtype: str
    versions: dict[str, str]  # library versions


@dataclass(kw_only=True)
class EvaluationResult(EvaluationDetails):
    """Result of evaluating a model on rows of a data set."""

    n: int  # rows
    figures: list[Figure]  # one per metric, and one per number of a harness task


class ComparisonLooks(TypedDict):
    """How often runs were compared on the held-out rows of a split (`store.evaluation.comparison_looks`)."""

    split: JudgingSplit
    comparisons: int  # different sets of runs
    narrowed: int  # of them, sets that leave out runs of an earlier one
    runs: int  # different runs in all of them
    repeated: int  # evaluations of a model that had been evaluated on these rows


@dataclass(kw_only=True)
class EvaluationIdentity:
    """Fields common to every view of an evaluation."""

    evaluation_id: str  # id of its job
    name: str
    model: str  # for a run, its base model
    run_id: str | None  # null for a model not trained by a run
    checkpoint: Literal["tuned", "best", "newest", "base"]
    dataset_id: str
    dataset_name: str  # the name when the evaluation was requested
    data_fingerprint: str  # row ids are comparable under the same fingerprint
    part: Literal["train", "validation", "test", "all"]
    n: int  # rows
    created_at: datetime
    created_by: str | None  # person who requested it; null if unknown
    config: ConfigDocument  # store.evaluation.config.EvaluateConfig


@dataclass(kw_only=True)
class Evaluation(EvaluationIdentity):
    """A finished evaluation: a row of table `evaluation`."""

    notes: str
    figures: list[Figure]
    details: EvaluationDetails


@dataclass(kw_only=True)
class EvaluationSummary(EvaluationIdentity):
    """An evaluation in a list, without potentially large fields."""

    run_name: str | None
    figures: list[FigureSummary]


@dataclass(kw_only=True)
class RowScore:
    """Score of one row by one metric."""

    score: float | None
    reason: str | None  # why there is no score


@dataclass(kw_only=True)
class EvaluatedRow:
    """A row of an evaluation's predictions.parquet with its scores."""

    row_id: int
    prompt: str | None
    prediction: str | None
    reference: str | None
    label: str | None
    loss_sum: float | None = None  # nats
    tokens: int | None = None
    bytes: int | None = None
    probability: float | None = None  # probability of a classification head's answer
    group: int | None
    choices: list[str] | None = None
    answer_index: int | None = None
    choice_scores: list[float] | None = None  # summed log-probability of each choice
    scores: dict[str, RowScore] = field(default_factory=dict)  # by metric


@dataclass(kw_only=True)
class PairedRow:
    """A row that two evaluations answered differently."""

    row_id: int
    prompt: str | None
    reference: str | None
    first: str | None  # answers
    second: str | None
    first_score: float
    second_score: float


@dataclass(kw_only=True)
class PairCounts:
    """Pairs of answers by judgment; each pair is judged in both orders."""

    first: int  # pairs won in both orders
    second: int  # pairs won in both orders
    ties: int
    split: int  # pairs decided by the order
    unjudged: int


@dataclass(kw_only=True)
class JudgingResult:
    """Result of judging two evaluations."""

    first: str  # evaluation id
    second: str  # evaluation id
    n: int  # pairs to be judged
    figure: Figure  # share of pairs won by the first, ties counted as half
    pairs: PairCounts
    reasons: dict[str, int]  # reason why pairs could not be judged -> count
    notices: list[str]
    seconds: float


@dataclass(kw_only=True)
class JudgePositionBias:
    """Effect of the order in which the two answers were shown."""

    agree: Estimate  # share of pairs in which both orders agree
    first_shown: Estimate | None  # share of the other pairs won by the answer shown first; null without one


@dataclass(kw_only=True)
class JudgeLengthBias:
    """Effect of answer length, over pairs that were decided in both orders."""

    longer: Estimate | None  # share of pairs of unequal length won by the longer answer
    first_longer: int  # pairs in which the first model's answer is longer
    equal: Estimate | None  # estimated share of pairs of equal length that the first would win
    problem: str  # why it can't be estimated, else empty


@dataclass(kw_only=True)
class ConstraintShare(Estimate):
    """Share of answers that satisfy one constraint."""

    constraint: str  # description of the constraint


class ClassDetails(TypedDict):
    """Answers as labels, by class."""

    classes: list[ClassRates]
    confusion: list[tuple[str, str, int]]  # label, answer, rows
    pair_count: int  # number of nonzero cells of the confusion matrix


@dataclass(kw_only=True)
class UnmatchedTexts:
    """Texts that match no label."""

    count: int
    most: list[list[str | int]]  # the most frequent texts and their counts


class JudgeCalls(TypedDict):
    """Number of calls to a judge."""

    calls: int
    cached: int  # judgments served from the cache


class PreferenceDetails(JudgeCalls):
    """Details of a judge's preferences."""

    position: JudgePositionBias | None  # null if no pair was judged in both orders
    length: JudgeLengthBias
    orders: list[list[float | None]]  # score of each pair's first answer shown first and shown second


class IsolatedQuestion(TypedDict):
    """Request to a metric's own process."""

    choice: ConfigDocument  # a metric choice of store.core.metrics_config, as JSON
    home: str
    confidence: float
    row_ids: list[int]
    predictions: list[str | None] | None
    references: list[str | None] | None
    prompts: list[str | None] | None
    groups: list[str | None] | None


class IsolatedAnswer(TypedDict):
    """Response of a metric's process: `failed` if it was killed, `error` if the metric failed, or scores."""

    failed: NotRequired[str]
    error: NotRequired[str]
    traceback: NotRequired[str]
    scores: NotRequired[list[float | None]]  # one per row
    reasons: NotRequired[list[tuple[int, str]]]  # index of a row without a score, and the reason
    estimator: NotRequired[str]
    whole: NotRequired[Any]  # engine.evaluation.statistics.metric_estimates.WholeFigure, or null


class SimulatedRate(TypedDict):
    """Observed and required frequency of an event in simulations with known truth; shares from 0 to 1."""

    name: str
    draws: int  # draws counted; those without a figure are not
    nominal: float  # the nominal rate
    low: float  # lower bound required of the observed share
    high: float  # upper bound required of the observed share
    observed: float | None  # null if no draw counted
    holds: bool  # whether a share within the bounds is compatible with this many draws


class SimulatedTopic(TypedDict):
    """The rates of one bench file, measured together."""

    topic: str  # the file name
    about: str  # what it measures, in a paragraph
    date: str  # date of the measurement in UTC: "2026-11-30"
    commit: str  # commit of the measured code; ends in "-dirty" if files were modified
    share: float  # share of the intended draws; below 1 the measurement is preliminary
    seconds: float  # seconds of one CPU core
    rates: list[SimulatedRate]


class SimulatedTruth(TypedDict):
    """All topics with their latest measurements."""

    topics: list[SimulatedTopic]  # sorted by name
