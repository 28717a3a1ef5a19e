"""Evaluations as the store has them and what their jobs leave: figures and details of metrics, a judge's
preferences, a classifier on held-out rows, and simulations whose truth is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict

from store.core.figure_schemas import Estimate, Figure, FigureSummary, JudgingSplit
from store.core.schemas import ConfigDocument


@dataclass(kw_only=True)
class ClassRates:
    """One class: n of recall are its rows, of precision those predicted as it, of F1 both together."""

    label: str
    n: int
    predicted: int
    precision: Estimate | None  # null where it was never predicted
    recall: Estimate | None  # null where no row is of it
    f1: Estimate


@dataclass(kw_only=True)
class CalibrationError:
    """Expected calibration error, and what chance alone gives in 19 of 20 cases."""

    value: float
    null: float
    n: int


@dataclass(kw_only=True)
class CalibrationBin:
    """Rows of about equal confidence: how sure the model is, and the share that is right."""

    confidence: float
    accuracy: float
    low: float | None
    high: float | None
    n: int


@dataclass(kw_only=True)
class CalibrationFigures:
    """Whether a classifier is as often right as it is sure."""

    ece: CalibrationError
    brier: Estimate  # squared distance from the truth over all classes, 0 to 2
    temperature: Estimate | None  # of the lowest loss; null where the rows don't bound it
    overconfident: bool
    bins: list[CalibrationBin]


@dataclass(kw_only=True)
class ClassAverages:
    """The figures of a classifier over all classes."""

    n: int
    accuracy: Estimate
    f1_macro: Estimate
    f1_weighted: Estimate


@dataclass(kw_only=True)
class ClassBreakdown:
    """How well each class is told, and which are taken for each other."""

    n: int
    class_count: int
    classes: list[ClassRates]  # 200 largest
    confusion: list[tuple[str, str, int]]  # label, predicted, rows; 400 largest
    pair_count: int  # cells that occur


@dataclass(kw_only=True)
class ClassFigures(ClassBreakdown, ClassAverages):
    """The figures of a classifier, over all classes and class by class."""

    calibration: CalibrationFigures | None = None


@dataclass(kw_only=True)
class MajorityClass:
    """The most frequent class of the training rows."""

    label: str
    share: float
    n: int


@dataclass(kw_only=True)
class ClassModels:
    """Figures of the tuned model, of always the most frequent class, and of the untuned model that was asked
    for the label."""

    tuned: ClassFigures
    majority: ClassAverages
    prompted: ClassAverages | None = None  # where it can be asked


@dataclass(kw_only=True)
class ClassConfusion:
    """Two classes that are taken for each other."""

    labels: list[str]
    rows: int
    forth: int  # the first taken for the second
    back: int


@dataclass(kw_only=True)
class Classification:
    """A run as a classifier of held-out rows."""

    split: JudgingSplit
    class_count: int
    majority: MajorityClass
    unseen: int  # held-out rows with a label that training doesn't know
    models: ClassModels
    over_prompted: Estimate | None  # share of rows more that are right than when the untuned model is asked
    confused: list[ClassConfusion]


@dataclass(kw_only=True)
class EvaluationCounts:
    """Rows by what they lack; `rows` is how many were asked for."""

    no_prompt: int
    no_reference: int
    no_loss: int
    cut: int  # cut for the loss, as they are longer than the model sees
    empty: int  # answers without a character
    rows: int


@dataclass(kw_only=True)
class GeneralFigure:
    """What the model knows of one of the suite's probes."""

    probe: str
    suite: str  # fingerprint of questions and prose; numbers of different ones are never compared
    n: int  # items
    loss: Estimate  # nats a token; of choices nats an item
    accuracy: Estimate | None = None  # of questions


@dataclass(kw_only=True)
class EvaluationDetails:
    """What an evaluation found beside its figures."""

    probes: list[GeneralFigure]
    counts: EvaluationCounts
    reasons: dict[str, int]  # why rows could not be asked or have no loss, and how many
    notices: list[str]
    seconds: dict[str, float]  # by part: loading, losses, answers, choices, tasks, scoring, probes
    peak_memory_gib: float
    device: str
    device_name: str
    dtype: str
    versions: dict[str, str]  # of libraries


@dataclass(kw_only=True)
class EvaluationResult(EvaluationDetails):
    """One evaluation of a model on rows of a data set."""

    n: int  # rows
    figures: list[Figure]  # one for each metric, and for each number of a harness's task


@dataclass(kw_only=True)
class EvaluationIdentity:
    """What every reading of an evaluation has of it."""

    evaluation_id: str  # the id of its job
    name: str
    model: str  # of a run: its base model
    run_id: str | None  # null for a model that no run made
    checkpoint: Literal["tuned", "best", "newest", "base"]
    dataset_id: str
    dataset_name: str  # as it was when it was asked for
    data_fingerprint: str  # row ids mean the same under the same one
    part: Literal["train", "validation", "test", "all"]
    n: int  # rows
    created_at: datetime
    created_by: str | None  # who asked for it; null where nobody knows
    config: ConfigDocument  # store.evaluation.config.EvaluateConfig


@dataclass(kw_only=True)
class Evaluation(EvaluationIdentity):
    """A row of table `evaluation`: one that has finished."""

    notes: str
    figures: list[Figure]
    details: EvaluationDetails


@dataclass(kw_only=True)
class EvaluationSummary(EvaluationIdentity):
    """An evaluation in a list, without what can be large."""

    run_name: str | None
    figures: list[FigureSummary]


@dataclass(kw_only=True)
class RowScore:
    """What one metric says of one row."""

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
    probability: float | None = None  # of a head's answer
    group: int | None
    choices: list[str] | None = None
    answer_index: int | None = None
    choice_scores: list[float] | None = None  # summed log-probability of each choice
    scores: dict[str, RowScore] = field(default_factory=dict)  # by metric


@dataclass(kw_only=True)
class PairedRow:
    """A row that two evaluations answered in different ways."""

    row_id: int
    prompt: str | None
    reference: str | None
    first: str | None  # answers
    second: str | None
    first_score: float
    second_score: float


@dataclass(kw_only=True)
class PairCounts:
    """Pairs of answers by how they were judged, each pair being asked in both orders."""

    first: int  # better in both orders
    second: int  # better in both orders
    ties: int
    split: int  # the order decided
    unjudged: int


@dataclass(kw_only=True)
class JudgingResult:
    """One judging of two evaluations."""

    first: str  # evaluation id
    second: str  # evaluation id
    n: int  # pairs that were to be judged
    figure: Figure  # the share of pairs that the first wins, ties as half
    pairs: PairCounts
    reasons: dict[str, int]  # why pairs could not be judged, and how many
    notices: list[str]
    seconds: float


@dataclass(kw_only=True)
class JudgePositionBias:
    """What the order did in which the two answers were shown."""

    agree: Estimate  # share of pairs in which both orders say the same
    first_shown: Estimate | None  # share of the others that the answer shown first won; null without one


@dataclass(kw_only=True)
class JudgeLengthBias:
    """What the length of answers did, of pairs that were decided in both orders."""

    longer: Estimate | None  # share of pairs of unequal length that the longer answer won
    first_longer: int  # pairs in which the first one's answer was the longer
    equal: Estimate | None  # share that the first would win of pairs of equal length
    problem: str  # why that can't be told, else empty


@dataclass(kw_only=True)
class ConstraintShare(Estimate):
    """The share of answers that keep one constraint."""

    constraint: str  # in words


class ClassDetails(TypedDict):
    """Answers as labels, class by class."""

    classes: list[ClassRates]
    confusion: list[tuple[str, str, int]]  # label, answer, rows
    pair_count: int  # cells of the confusion that occur


@dataclass(kw_only=True)
class UnmatchedTexts:
    """Texts that name no label."""

    count: int
    most: list[list[str | int]]  # the most frequent of them, and how often


class JudgeCalls(TypedDict):
    """What asking a judge took."""

    calls: int
    cached: int  # answered without a call


class PreferenceDetails(JudgeCalls):
    """What is said of a judge's preferences."""

    position: JudgePositionBias | None  # null where no pair was judged in both orders
    length: JudgeLengthBias
    orders: list[list[float | None]]  # how the first answer of each pair did shown first, and shown second


class IsolatedQuestion(TypedDict):
    """What a metric's own process is asked."""

    choice: ConfigDocument  # of store.core.metrics_config, as JSON
    home: str
    confidence: float
    row_ids: list[int]
    predictions: list[str | None] | None
    references: list[str | None] | None
    prompts: list[str | None] | None
    groups: list[str | None] | None


class IsolatedAnswer(TypedDict):
    """What it answers: `failed` where the process was ended, `error` where the metric failed, else scores."""

    failed: NotRequired[str]
    error: NotRequired[str]
    traceback: NotRequired[str]
    scores: NotRequired[list[float | None]]  # a row each
    reasons: NotRequired[list[tuple[int, str]]]  # place of a row without a score, and why
    estimator: NotRequired[str]
    whole: NotRequired[Any]  # engine.evaluation.statistics.metric_estimates.WholeFigure, or null


class SimulatedRate(TypedDict):
    """How often something happened where the truth is known, and how often it should; shares from 0 to 1."""

    name: str
    draws: int  # that counted: one in which no figure is given does not
    nominal: float  # what is promised
    low: float  # the observed share must be at least this
    high: float  # and at most this
    observed: float | None  # null where no draw counted
    holds: bool  # so many draws leave it open that the share lies between the two


class SimulatedTopic(TypedDict):
    """The rates of one file of the bench, measured together."""

    topic: str  # the file's name
    about: str  # what it asks, in a paragraph
    date: str  # of the measurement, in UTC: "2026-11-30"
    commit: str  # of the code that was asked; ends in "-dirty" where files differed from it
    share: float  # of the draws that the rates ask for; under 1 it was a first look
    seconds: float  # of one processor core
    rates: list[SimulatedRate]


class SimulatedTruth(TypedDict):
    """All topics, each as it was last measured."""

    topics: list[SimulatedTopic]  # by name
