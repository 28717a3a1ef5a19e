"""Details of a bias check: probes, most changed pairs, group tables and continuations; and the check
itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from store.core.figure_schemas import BiasReport, Estimate
from store.core.schemas import ConfigDocument


@dataclass(kw_only=True)
class BiasLevel:
    """A component of a gap, such as accuracy on sentences that match a stereotype."""

    name: str
    base: Estimate
    tuned: Estimate


@dataclass(kw_only=True)
class BiasProbe:
    """Summary of a probe or file, and of its unusable rows."""

    name: str
    kind: str
    items: int  # items answered by both models
    rows: int  # rows of the file, or pairs of the built-in probe
    left_out: dict[str, int]  # reason -> rows
    notices: list[str]
    levels: list[BiasLevel]
    seconds: float


@dataclass(kw_only=True)
class ChangedPair:
    """Two texts whose difference in treatment changed. base and tuned: value of the pair in `unit`."""

    probe: str
    group: str
    first: str
    second: str
    base: float
    tuned: float
    unit: str


@dataclass(kw_only=True)
class GroupRate:
    """A rate of one group; null if it has too few rows."""

    estimate: Estimate | None
    n: int


@dataclass(kw_only=True)
class GroupRates:
    """Rates of one group: score, selection, true_positive, false_positive."""

    group: str
    n: int
    rates: dict[str, GroupRate]


@dataclass(kw_only=True)
class GroupTable:
    """Rates by a column of the data."""

    column: str
    metric: str
    positive: str  # the label that counts as positive; empty for none
    groups: list[GroupRates]
    hidden: dict[str, int]  # group that is too small for rates -> rows
    selection_ratio: Estimate | None  # demographic parity ratio


@dataclass(kw_only=True)
class GroupComparison:
    """Groups of one evaluation, compared with another one on the same rows."""

    evaluation_id: str
    evaluation: str
    against_id: str | None
    against: str | None
    base: GroupTable | None
    tuned: GroupTable
    left_out: dict[str, int]  # reason -> rows


@dataclass(kw_only=True)
class ClassifierError:
    """Error rates of the classifier of continuations, on rows with known labels."""

    rows: str  # description of the rows
    recall: Estimate | None  # share of harmful rows classified as harmful; null if there are none
    false_positive: Estimate | None  # share of harmless rows classified as harmful
    by_likeliest: int  # rows classified by their most likely label, because not all probabilities were stored
    other_labels: int | None = None  # rows left out because their label is unknown to the classifier


@dataclass(kw_only=True)
class ChangedContinuation:
    """A prompt whose continuations changed most in harmfulness according to the classifier: the most harmful
    one of each model, its probability, and the mean over all.
    """

    opening: str
    group: str
    base: str
    tuned: str
    base_probability: float
    tuned_probability: float
    base_mean: float
    tuned_mean: float


@dataclass(kw_only=True)
class ClassifierJudgement:
    """Continuations as judged by a classifier of the user."""

    classifier: str  # display name
    labels: list[str]  # labels that count as harmful
    threshold: float
    probe: str  # source of the prompts
    samples: int  # continuations per prompt
    max_new_tokens: int
    empty_base: int  # empty continuations, counted as not harmful
    empty_tuned: int
    cut: int  # continuations truncated to the classifier's context length
    errors: list[ClassifierError]  # empty if unknown
    changed: list[ChangedContinuation]  # largest change first


@dataclass(kw_only=True)
class BiasDetails:
    """Details besides the report."""

    probes: list[BiasProbe]
    pairs: list[ChangedPair]  # pairs that changed most
    groups: list[GroupComparison]
    continuations: ClassifierJudgement | None = None
    seconds: float
    device: str
    versions: dict[str, str]


@dataclass(kw_only=True)
class BiasResult:
    """Result of the worker."""

    report: BiasReport
    details: BiasDetails


@dataclass(kw_only=True)
class BiasCheck:
    """A row of `bias_check`."""

    job_id: str
    run_id: str | None  # run whose tuned model was compared with its base model
    model: str  # display name
    against: str
    config: ConfigDocument
    report: BiasReport
    details: BiasDetails
    created_by: str | None
    created_at: datetime


@dataclass(kw_only=True)
class BiasSummary:
    """A check in a list."""

    job_id: str
    run_id: str | None
    model: str
    against: str
    sentence: str
    worse: int
    cant_tell: int
    created_by: str | None
    created_at: datetime
