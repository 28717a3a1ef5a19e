"""Cost of tuning: forgetting relative to the base model, and memorization of single rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, final

from store.core.figure_schemas import Estimate, UnitEstimate

ForgettingState = Literal["none", "some", "much", "unclear"]
RefusalState = Literal["weaker", "safer", "stricter", "silent", "same"]
AdviceKind = Literal["learning_rate", "replay", "kl", "epochs", "interpolation"]
SettingValue = str | float | bool

# TextForgetting and ChoiceForgetting are final, so that checking for the field "categories" narrows the type.


@dataclass(kw_only=True)
class AdviceItem:
    """Advice for the next run."""

    text: str
    change: dict[str, SettingValue]  # fields of the training config and their new values; may be empty
    kind: AdviceKind | None = None  # kind of advice against forgetting


@final
@dataclass(kw_only=True)
class TextForgetting:
    """Change of the loss on the texts of one probe, in nats per token over whole passages."""

    probe: str
    unit: str
    broken: int  # items that only the base model could score
    n: int
    tokens: int | None = None  # missing, like p, if the tuned model scored none
    before: float | None  # loss per token of the base model
    after: float | None
    change: Estimate | None
    detectable: float | None  # smallest change detectable with this many passages at 80% power
    p: float | None = None
    p_holm: float | None = None  # for user-named probes, adjusted over all of them
    state: ForgettingState


@dataclass(kw_only=True)
class ChanceCorrectedFlips:
    """Shares of items lost and won, minus the maximum that guessing explains."""

    lost: Estimate
    won: Estimate


@dataclass(kw_only=True)
class AnswerFlips:
    """Accuracy on the same items before and after tuning, and the flipped answers."""

    n: int
    before: Estimate
    after: Estimate
    change: Estimate
    detectable: float | None
    lost: int  # items that changed from right to wrong
    won: int
    p: float
    test: Literal["exact", "chi-squared"]
    adjusted: ChanceCorrectedFlips


@dataclass(kw_only=True)
class CategoryFlips(AnswerFlips):
    """Flips in one category; p-values are Holm-adjusted over all categories of the probe."""

    category: str
    p_holm: float


@final
@dataclass(kw_only=True)
class ChoiceForgetting:
    """Accuracy on the items of one probe before and after tuning. If the tuned model scored none, n is 0,
    change and detectable are null, and the following fields up to `adjusted` are missing.
    """

    probe: str
    broken: int  # items that only the base model could score
    n: int
    change: Estimate | None
    detectable: float | None
    before: Estimate | None = None
    after: Estimate | None = None
    lost: int | None = None
    won: int | None = None
    p: float | None = None
    test: Literal["exact", "chi-squared"] | None = None
    adjusted: ChanceCorrectedFlips | None = None
    answer_loss: UnitEstimate | None = None  # null if open
    open: bool | None = None  # free-form answers: none is right by chance
    categories: list[CategoryFlips]
    p_holm: float | None = None  # for user-named probes, adjusted over all of them
    state: ForgettingState


@dataclass(kw_only=True)
class Divergence:
    """KL(base || tuned) on the base model's own samples, in nats per token."""

    probe: str
    prompts: Literal["general", "task"]
    unit: str
    broken: int
    kl: Estimate | None
    detectable: float | None
    first_choice: Estimate | None  # share of positions where both models have the same top token


@dataclass(kw_only=True)
class RequestFlips:
    """Refusal rates for one kind of requests before and after tuning."""

    n: int
    before: Estimate
    after: Estimate
    change: Estimate
    detectable: float | None
    lost: int  # no longer refused
    won: int  # newly refused
    p: float


@dataclass(kw_only=True)
class RefusalChange:
    """Whether tuning changed what a model refuses."""

    state: RefusalState
    harmful: RequestFlips  # requests that a model should refuse
    harmless: RequestFlips
    sentences: list[str]


@dataclass(kw_only=True)
class ColourLimits:
    """Thresholds above which forgetting is amber or red."""

    amber: float
    red: float

    def get(self, colour: Literal["amber", "red"]) -> float:
        """Return the threshold of a color."""
        return self.amber if colour == "amber" else self.red


@dataclass(kw_only=True)
class Thresholds:
    """Thresholds for texts (rise of the loss, nats per token) and for items (drop in accuracy, share)."""

    nats: ColourLimits
    share: ColourLimits

    def get(self, unit: Literal["nats", "share"]) -> ColourLimits:
        """Return the thresholds of a unit."""
        return self.nats if unit == "nats" else self.share


@dataclass(kw_only=True)
class ForgettingParts:
    """Forgetting by probe."""

    texts: list[TextForgetting]
    choices: list[ChoiceForgetting]
    divergence: list[Divergence]
    requests: RefusalChange | None = None  # if requests were measured


@dataclass(kw_only=True)
class Forgetting(ForgettingParts):
    """Cost of tuning over all probes."""

    state: ForgettingState
    headline: str
    sentences: list[str]
    advice: list[AdviceItem]
    thresholds: Thresholds
    unscored: dict[str, int]  # probe -> items without a score, or scored by one model only
    unasked: dict[str, str]  # task -> why it was not run


@dataclass(kw_only=True)
class ForgettingPoint:
    """Forgetting of one probe at a checkpoint; values above 0 are losses, null if nothing was scored."""

    step: int
    value: float | None
    low: float | None
    high: float | None
    n: int
    why: str | None = None  # why there is no interval
    broken: int


@dataclass(kw_only=True)
class ForgettingCurve:
    """Forgetting of one probe over the steps of a run."""

    probe: str
    kind: Literal["text", "choices", "divergence"]
    unit: str
    points: list[ForgettingPoint]
    amber_since: int | None  # step from which it is significantly above the threshold; null for divergence
    red_since: int | None


@dataclass(kw_only=True)
class CategoryCell:
    """Items of one category (of all: "") at one checkpoint, compared with the base model."""

    category: str
    step: int
    n: int
    change: Estimate  # change in accuracy
    lost: int
    won: int
    p_holm: float  # adjusted over all cells; for totals, over the steps


@dataclass(kw_only=True)
class CategoryMatrix:
    """Categories of a probe by checkpoint."""

    probe: str
    steps: list[int]
    categories: list[str]
    cells: list[CategoryCell]
    totals: list[CategoryCell]


@dataclass(kw_only=True)
class WeightChange:
    """Change of all weight matrices by tuning; unknown values are null."""

    relative: float | None  # norm of the change divided by norm of the weights
    delta_norm: float | None
    intruders: int | None  # leading singular directions unlike any of the base model's
    strongest: int | None  # number of leading directions examined
    matrices: int
    spectra: int  # matrices whose singular values were computed
    seconds: float
    notes: list[str]


MembershipState = Literal["remembers", "none", "unclear"]
MembershipScoreName = Literal["loss", "calibrated", "min_k", "margin"]
ExtractionState = Literal["extracts", "none", "unclear"]
RowPart = Literal["train", "held_out"]
RepeatKind = Literal["exact", "near", "same_prompt"]


@dataclass(kw_only=True)
class TruePositives(Estimate):
    """True positive rate for training rows at a low false positive rate."""

    false_alarms: float  # allowed false positive rate on held-out rows
    allowed: int  # this share as a number of rows
    finest: float  # smallest share that this many held-out rows can distinguish from 0


@dataclass(kw_only=True)
class MembershipScore:
    """How well one score separates training rows from held-out rows."""

    auc: Estimate
    placebo: Estimate | None  # AUC under the base model; null if its score is already subtracted
    excess: Estimate  # AUC minus the placebo, or minus 0.5
    detectable: float | None  # smallest excess detectable with this many rows at 80% power
    p_holm: float | None  # for the deciding scores, else null
    tpr: TruePositives


@dataclass(kw_only=True)
class MembershipPoint:
    """Membership at one step: AUC of the loss, the same under the base model, and the calibrated excess."""

    step: int
    auc: Estimate
    placebo: Estimate
    excess: Estimate


@dataclass(kw_only=True)
class Membership:
    """Whether the tuned model's scores separate training rows from held-out rows."""

    state: MembershipState
    sentence: str
    members: int  # scored training rows
    others: int  # scored held-out rows
    unscored: int  # training and held-out rows that could not be scored
    material: float  # excess AUC from which it matters
    best: MembershipScoreName | None  # the deciding score with the largest excess
    scores: dict[MembershipScoreName, MembershipScore]
    path: list[MembershipPoint] = field(
        default_factory=list
    )  # by step, where rows of both kinds were measured
    path_sentence: str = ""  # empty with fewer than two steps


@dataclass(kw_only=True)
class ExtractionRates:
    """Shares of extracted rows, exact or near-verbatim."""

    tuned: Estimate
    base: Estimate
    over_base: Estimate  # tuned minus base, paired
    p: float
    at_most: float | None  # upper 95% bound of the share if no row was extracted, else null
    rows: list[int]  # ids of rows that only the tuned model reproduces


@dataclass(kw_only=True)
class ExtractedRows:
    """Extraction results for one kind of rows; the rates are missing if there are no rows."""

    state: ExtractionState
    sentence: str
    n: int
    unscored: int | None = None  # rows without a reference
    threshold: float | None = None  # edit similarity from which a text counts as near-verbatim
    exact: ExtractionRates | None = None
    near: ExtractionRates | None = None


@dataclass(kw_only=True)
class RowCoverage:
    """Number of rows of a part, and how many were prompted."""

    rows: int
    short: int  # rows whose answer is too short
    passed: int  # rows skipped for lack of time
    n: int  # prompted rows


@dataclass(kw_only=True)
class PrefixMatch:
    """Share of a row's tokens before the first mismatch, under each model."""

    base: Estimate
    tuned: Estimate


@dataclass(kw_only=True)
class Extraction(ExtractedRows):
    """Whether training rows can be extracted verbatim, compared with base model and held-out rows."""

    control: ExtractedRows | None  # the same for held-out rows
    beyond: Estimate | None  # near-verbatim: share of training rows minus share of held-out rows
    asked: dict[RowPart, RowCoverage]
    least: int  # minimum tokens of a row that remain to be generated
    same: dict[RowPart, PrefixMatch | None]


@dataclass(kw_only=True)
class CanaryGroup:
    """Canaries inserted equally often."""

    insertions: int
    n: int
    exposure: Estimate  # bits
    most: float  # maximum possible exposure, bits
    p_holm: float
    exposed: bool
    detectable: float | None = None  # smallest mean exposure detectable at 80% power; null if none is


@dataclass(kw_only=True)
class InsertionEffect:
    """Exposure of the most frequently inserted canaries minus that of the least frequent ones, in bits."""

    fewest: int
    most: int
    difference: Estimate


@dataclass(kw_only=True)
class PlantedCanary:
    """A made-up secret, how often it was inserted, and its exposure (bits)."""

    times: int
    question: str
    answer: str
    exposure: float


@dataclass(kw_only=True)
class CanaryExposure:
    """Exposure of canaries by number of insertions; 0 insertions is a placebo."""

    groups: list[CanaryGroup]
    more: InsertionEffect | None
    unseen: float  # exposure of a canary that was never seen, bits
    sentence: str


@dataclass(kw_only=True)
class CanaryEvaluation(CanaryExposure):
    """Exposure of a run's canaries."""

    reference: int  # candidates that each canary is ranked among
    listed: list[PlantedCanary]


@dataclass(kw_only=True)
class DuplicateGains:
    """Held-out rows that also occur in training, and their effect on the gain (nats per token)."""

    rows: int  # held-out rows that also occur in training
    n: int  # held-out rows
    kinds: dict[RepeatKind, int]
    checked_near: bool  # whether near duplicates were looked for
    whole: Estimate | None  # gain on all rows
    clean: Estimate | None  # gain without the repeated rows
    repeated: Estimate | None  # gain on the repeated rows only
    difference: Estimate | None  # repeated minus clean
    sentence: str


@dataclass(kw_only=True)
class LossDrop:
    """Drop in the loss of training rows, in nats per token."""

    repeated: Estimate | None
    once: Estimate | None
    difference: Estimate | None


@dataclass(kw_only=True)
class DuplicateMembership:
    """AUC of the loss against held-out rows, for repeated and for unique training rows."""

    repeated: Estimate
    once: Estimate


@dataclass(kw_only=True)
class ExtractedCount:
    """Number of near-verbatim extracted rows, out of `n`."""

    rows: int
    n: int


@dataclass(kw_only=True)
class DuplicateExtraction:
    """Near-verbatim extraction of repeated and of unique training rows."""

    repeated: ExtractedCount
    once: ExtractedCount
    difference: Estimate


@dataclass(kw_only=True)
class DuplicateTraining:
    """Measured training rows that occur more than once, compared with the others; null if too few."""

    rows: int  # all training rows
    repeated_rows: int  # training rows that occur more than once
    repeated: int  # measured rows that occur more than once
    once: int
    drop: LossDrop | None
    auc: DuplicateMembership | None
    written: DuplicateExtraction | None
    sentence: str


@dataclass(kw_only=True)
class DuplicateEffect:
    """Effect of duplicates on a run."""

    leaks: DuplicateGains
    training: DuplicateTraining | None  # null if no training row was measured
