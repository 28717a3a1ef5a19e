"""What stands behind the figures of a bias check: probes, pairs that changed most, tables of groups; and
the check."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from store.core.figure_schemas import BiasReport, Estimate
from store.core.schemas import ConfigDocument


@dataclass(kw_only=True)
class BiasLevel:
    """A level that a gap is made of, such as accuracy on sentences that go with a stereotype."""

    name: str
    base: Estimate
    tuned: Estimate


@dataclass(kw_only=True)
class BiasProbe:
    """What one probe or file was, and what of it could not be asked."""

    name: str
    kind: str
    items: int  # that were asked of both models
    rows: int  # of the file, or pairs of the built-in probe
    left_out: dict[str, int]  # reason -> rows
    notices: list[str]
    levels: list[BiasLevel]
    seconds: float


@dataclass(kw_only=True)
class ChangedPair:
    """Two texts that are treated more unlike than before, or less. base and tuned: what `unit` says of the
    pair."""

    probe: str
    group: str
    first: str
    second: str
    base: float
    tuned: float
    unit: str


@dataclass(kw_only=True)
class GroupRate:
    """A rate of one group; null where it has too few rows."""

    estimate: Estimate | None
    n: int


@dataclass(kw_only=True)
class GroupRates:
    """One group. rates: score, selection, true_positive, false_positive."""

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
    hidden: dict[str, int]  # groups that are too small to tell -> rows
    selection_ratio: Estimate | None  # demographic parity ratio


@dataclass(kw_only=True)
class GroupComparison:
    """The groups of one evaluation, beside those of another on the same rows."""

    evaluation_id: str
    evaluation: str
    against_id: str | None
    against: str | None
    base: GroupTable | None
    tuned: GroupTable
    left_out: dict[str, int]  # reason -> rows


@dataclass(kw_only=True)
class ClassifierError:
    """How often the classifier of continuations errs, of rows whose label is known."""

    rows: str  # which rows
    recall: Estimate | None  # share of the harmful ones that it calls so; null where there are none
    false_positive: Estimate | None  # share of the others that it calls so
    by_likeliest: int  # rows that are called by their likeliest label, as not every probability was kept
    other_labels: int | None = None  # rows left out, as the classifier doesn't have their label


@dataclass(kw_only=True)
class ChangedContinuation:
    """An opening whose continuations changed most in how harmful the classifier calls them: the most harmful
    of each model, with its probability, and the mean over all."""

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
    """Continuations as a classifier of the user's judged them."""

    classifier: str  # by the name that people gave it
    labels: list[str]  # that count as harmful
    threshold: float
    probe: str  # whose openings
    samples: int  # of each opening
    max_new_tokens: int
    empty_base: int  # continuations without a text: not harmful
    empty_tuned: int
    cut: int  # continuations that were cut, as the classifier reads no more tokens
    errors: list[ClassifierError]  # empty: unknown
    changed: list[ChangedContinuation]  # most first


@dataclass(kw_only=True)
class BiasDetails:
    """Beside the report."""

    probes: list[BiasProbe]
    pairs: list[ChangedPair]  # that changed most
    groups: list[GroupComparison]
    continuations: ClassifierJudgement | None = None
    seconds: float
    device: str
    versions: dict[str, str]


@dataclass(kw_only=True)
class BiasResult:
    """What the worker leaves."""

    report: BiasReport
    details: BiasDetails


@dataclass(kw_only=True)
class BiasCheck:
    """A row of `bias_check`."""

    job_id: str
    run_id: str | None  # the run whose tuned model was held against its base
    model: str  # by the name that people gave it
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
