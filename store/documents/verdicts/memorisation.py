"""What a run remembers of single rows: which ones it was trained on, and what it writes word for word."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from store.documents.figures.estimate import Estimate

MembershipState = Literal["remembers", "none", "unclear"]
MembershipScoreName = Literal["loss", "calibrated", "min_k", "margin"]
ExtractionState = Literal["extracts", "none", "unclear"]
RowPart = Literal["train", "held_out"]
RepeatKind = Literal["exact", "near", "same_prompt"]


class TruePositives(Estimate):
    """The share of training rows that a score tells at few false alarms."""

    false_alarms: float  # share of held-out rows that may be taken for training rows
    allowed: int  # rows that this share is
    finest: float  # the smallest share that so many held-out rows can tell from none


class MembershipScore(TypedDict):
    """How well one score tells training rows from held-out ones."""

    auc: Estimate
    placebo: Estimate | None  # the same area under the base model; null where its score is taken off already
    excess: Estimate  # of the area over the placebo, or over one half
    detectable: float | None  # the smallest excess that so many rows would show in 80 of 100 cases
    p_holm: float | None  # of the scores that decide, else null
    tpr: TruePositives


class MembershipPoint(TypedDict):
    """Membership at one step: the area by the loss, under the base model, and its calibrated excess."""

    step: int
    auc: Estimate
    placebo: Estimate
    excess: Estimate


class Membership(TypedDict):
    """Whether training rows can be told from held-out ones by what the tuned model makes of them."""

    state: MembershipState
    sentence: str
    members: int  # training rows that were scored
    others: int  # held-out rows that were scored
    unscored: int  # rows of either that could not be scored
    material: float  # excess area from which it matters
    best: MembershipScoreName | None  # of the scores that decide, the one with the largest excess
    scores: dict[MembershipScoreName, MembershipScore]
    path: NotRequired[list[MembershipPoint]]  # over the steps at which rows of both kinds were measured
    path_sentence: NotRequired[str]  # empty under two steps


class ExtractionRates(TypedDict):
    """Shares of rows that come out, exactly or nearly word for word."""

    tuned: Estimate
    base: Estimate
    over_base: Estimate  # tuned minus base, in pairs
    p: float
    at_most: float | None  # the share that is still likely where no row came out, else null
    rows: list[int]  # ids of rows that the tuned model alone writes


class WrittenRows(TypedDict):
    """Rows of one kind that were asked, and what came out of them; the rates are missing without a row."""

    state: ExtractionState
    sentence: str
    n: int
    unscored: NotRequired[int]  # rows without a reference
    threshold: NotRequired[float]  # edit similarity from which a text is nearly the same
    exact: NotRequired[ExtractionRates]
    near: NotRequired[ExtractionRates]


class AskedRows(TypedDict):
    """How many rows of a part there are, and how many were asked."""

    rows: int
    short: int  # whose answer is too short
    passed: int  # not asked for want of time
    n: int  # asked


class SameTokens(TypedDict):
    """The share of a row's tokens that comes before the first slip, under either model."""

    base: Estimate
    tuned: Estimate


class Extraction(WrittenRows):
    """Whether training rows come out word for word, beside the base model and beside held-out rows."""

    control: WrittenRows | None  # the same of held-out rows
    beyond: Estimate | None  # nearly word for word: share of training rows minus share of held-out rows
    asked: dict[RowPart, AskedRows]
    least: int  # tokens that a row must leave to be written
    same: dict[RowPart, SameTokens | None]


class CanaryGroup(TypedDict):
    """Canaries that were planted equally often."""

    insertions: int
    n: int
    exposure: Estimate  # bits
    most: float  # bits that it could be
    p_holm: float
    exposed: bool
    detectable: NotRequired[float | None]  # least mean exposure found in 80 of 100 cases; null: none could be


class MoreInsertions(TypedDict):
    """The exposure of the canaries planted most often minus that of those planted least often, in bits."""

    fewest: int
    most: int
    difference: Estimate


class PlantedCanary(TypedDict):
    """One made-up secret, how often it was planted, and how far it is exposed (bits)."""

    times: int
    question: str
    answer: str
    exposure: float


class CanaryExposure(TypedDict):
    """Exposure of canaries by how often they were planted; 0 times is a placebo."""

    groups: list[CanaryGroup]
    more: MoreInsertions | None
    unseen: float  # bits that a canary shows which was never seen
    sentence: str


class CanaryEvidence(CanaryExposure):
    """What became of the canaries of a run."""

    reference: int  # candidates that each is ranked among
    listed: list[PlantedCanary]


class RepeatedGains(TypedDict):
    """Held-out rows that training repeats, and what they did to the gain (nats a token)."""

    rows: int  # held-out rows that training repeats
    n: int  # held-out rows
    kinds: dict[RepeatKind, int]
    checked_near: bool  # whether near duplicates were looked for
    whole: Estimate | None  # gain on all rows
    clean: Estimate | None  # without the repeated ones
    repeated: Estimate | None  # on these alone
    difference: Estimate | None  # repeated minus clean
    sentence: str


class LossDrop(TypedDict):
    """By how much the loss of training rows fell, in nats a token."""

    repeated: Estimate | None
    once: Estimate | None
    difference: Estimate | None


class RepeatedAreas(TypedDict):
    """How well training rows of either kind are told from held-out ones by their loss (AUC)."""

    repeated: Estimate
    once: Estimate


class WrittenCount(TypedDict):
    """Rows that came out nearly word for word, of `n`."""

    rows: int
    n: int


class RepeatedWritten(TypedDict):
    """How often training rows of either kind come out nearly word for word."""

    repeated: WrittenCount
    once: WrittenCount
    difference: Estimate


class RepeatedTraining(TypedDict):
    """Measured training rows that occur more than once, against the others; null where too few of a kind."""

    rows: int  # all training rows
    repeated_rows: int  # of which occur more than once
    repeated: int  # measured ones
    once: int
    drop: LossDrop | None
    auc: RepeatedAreas | None
    written: RepeatedWritten | None
    sentence: str


class DuplicateEffect(TypedDict):
    """What duplicates did to a run."""

    leaks: RepeatedGains
    training: RepeatedTraining | None  # null where no training row was measured
