"""What tuning cost: what the base model knew and the tuned one doesn't, and what a run remembers of single
rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, final

from store.core.figure_schemas import Estimate, UnitEstimate

ForgettingState = Literal["none", "some", "much", "unclear"]
RefusalState = Literal["weaker", "safer", "stricter", "silent", "same"]
AdviceKind = Literal["learning_rate", "replay", "kl", "epochs", "interpolation"]
SettingValue = str | float | bool

# Texts and choices are final, so that asking for "categories" in a part says which of the two it is.


@dataclass(kw_only=True)
class AdviceItem:
    """What to try in the next run."""

    text: str
    change: dict[str, SettingValue]  # fields of the train config and their new values; may be empty
    kind: AdviceKind | None = None  # of advice against forgetting


@final
@dataclass(kw_only=True)
class TextForgetting:
    """Change of the loss on the texts of one probe, in nats a token over whole passages."""

    probe: str
    unit: str
    broken: int  # items that the base model could score and the tuned one can't
    n: int
    tokens: int | None = None  # missing, as p, where the tuned model scored none
    before: float | None  # loss a token of the base model
    after: float | None
    change: Estimate | None
    detectable: float | None  # the smallest change that so many passages would show in 80 of 100 cases
    p: float | None = None
    p_holm: float | None = None  # over all that the user named, of what the user named
    state: ForgettingState


@dataclass(kw_only=True)
class ChanceCorrectedFlips:
    """Shares of items lost and won, less the most that guessing explains."""

    lost: Estimate
    won: Estimate


@dataclass(kw_only=True)
class AnswerFlips:
    """The same items asked before and after: shares right, and what flipped."""

    n: int
    before: Estimate
    after: Estimate
    change: Estimate
    detectable: float | None
    lost: int  # went from right to wrong
    won: int
    p: float
    test: Literal["exact", "chi-squared"]
    adjusted: ChanceCorrectedFlips


@dataclass(kw_only=True)
class CategoryFlips(AnswerFlips):
    """The items of one category; Holm's p over all categories of the probe."""

    category: str
    p_holm: float


@final
@dataclass(kw_only=True)
class ChoiceForgetting:
    """Accuracy on the items of one probe before and after. Where the tuned model scored none, n is 0, change
    and detectable are null, and what follows them up to `adjusted` is missing."""

    probe: str
    broken: int  # items that the base model could score and the tuned one can't
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
    answer_loss: UnitEstimate | None = None  # null where open
    open: bool | None = None  # answers are written freely: none is right by luck
    categories: list[CategoryFlips]
    p_holm: float | None = None  # over all that the user named, of what the user named
    state: ForgettingState


@dataclass(kw_only=True)
class Divergence:
    """KL(base || tuned) on the base model's own samples, in nats a token."""

    probe: str
    prompts: Literal["general", "task"]
    unit: str
    broken: int
    kl: Estimate | None
    detectable: float | None
    first_choice: Estimate | None  # share of places at which both would say the same token first


@dataclass(kw_only=True)
class RequestFlips:
    """Requests of one kind: shares that are refused before and after."""

    n: int
    before: Estimate
    after: Estimate
    change: Estimate
    detectable: float | None
    lost: int  # refused no more
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
    """From where on a loss is amber, and red."""

    amber: float
    red: float

    def get(self, colour: Literal["amber", "red"]) -> float:
        """Of a colour."""
        return self.amber if colour == "amber" else self.red


@dataclass(kw_only=True)
class Thresholds:
    """Of texts the rise of the loss in nats a token, of items the share by which accuracy fell."""

    nats: ColourLimits
    share: ColourLimits

    def get(self, unit: Literal["nats", "share"]) -> ColourLimits:
        """Of a unit."""
        return self.nats if unit == "nats" else self.share


@dataclass(kw_only=True)
class ForgettingParts:
    """What each probe says."""

    texts: list[TextForgetting]
    choices: list[ChoiceForgetting]
    divergence: list[Divergence]
    requests: RefusalChange | None = None  # where they were asked


@dataclass(kw_only=True)
class Forgetting(ForgettingParts):
    """What tuning cost, of all probes together."""

    state: ForgettingState
    headline: str
    sentences: list[str]
    advice: list[AdviceItem]
    thresholds: Thresholds
    unscored: dict[str, int]  # probe: items that have no score, or that one model alone has
    unasked: dict[str, str]  # task: why it was not asked


@dataclass(kw_only=True)
class ForgettingPoint:
    """What a checkpoint lost of one probe, above 0 where something was lost; null where it scored nothing."""

    step: int
    value: float | None
    low: float | None
    high: float | None
    n: int
    why: str | None = None  # there is no interval
    broken: int


@dataclass(kw_only=True)
class ForgettingCurve:
    """Forgetting of one probe over the steps of a run."""

    probe: str
    kind: Literal["text", "choices", "divergence"]
    unit: str
    points: list[ForgettingPoint]
    amber_since: int | None  # step from which on it is surely above; null for divergence
    red_since: int | None


@dataclass(kw_only=True)
class CategoryCell:
    """Items of one category (of all: "") at one checkpoint, against the base model."""

    category: str
    step: int
    n: int
    change: Estimate  # of accuracy
    lost: int
    won: int
    p_holm: float  # over all cells; of totals over the steps


@dataclass(kw_only=True)
class CategoryMatrix:
    """Categories of a probe by checkpoints."""

    probe: str
    steps: list[int]
    categories: list[str]
    cells: list[CategoryCell]
    totals: list[CategoryCell]


@dataclass(kw_only=True)
class WeightChange:
    """How far tuning moved the weight matrices, all of them together; what is not known is null."""

    relative: float | None  # norm of the change over that of the weights
    delta_norm: float | None
    intruders: int | None  # strongest directions that are like none of the base model's
    strongest: int | None  # directions that were looked at
    matrices: int
    spectra: int  # matrices whose singular values were worked out
    seconds: float
    notes: list[str]


MembershipState = Literal["remembers", "none", "unclear"]
MembershipScoreName = Literal["loss", "calibrated", "min_k", "margin"]
ExtractionState = Literal["extracts", "none", "unclear"]
RowPart = Literal["train", "held_out"]
RepeatKind = Literal["exact", "near", "same_prompt"]


@dataclass(kw_only=True)
class TruePositives(Estimate):
    """The share of training rows that a score tells at few false alarms."""

    false_alarms: float  # share of held-out rows that may be taken for training rows
    allowed: int  # rows that this share is
    finest: float  # the smallest share that so many held-out rows can tell from none


@dataclass(kw_only=True)
class MembershipScore:
    """How well one score tells training rows from held-out ones."""

    auc: Estimate
    placebo: Estimate | None  # the same area under the base model; null where its score is taken off already
    excess: Estimate  # of the area over the placebo, or over one half
    detectable: float | None  # the smallest excess that so many rows would show in 80 of 100 cases
    p_holm: float | None  # of the scores that decide, else null
    tpr: TruePositives


@dataclass(kw_only=True)
class MembershipPoint:
    """Membership at one step: the area by the loss, under the base model, and its calibrated excess."""

    step: int
    auc: Estimate
    placebo: Estimate
    excess: Estimate


@dataclass(kw_only=True)
class Membership:
    """Whether training rows can be told from held-out ones by what the tuned model makes of them."""

    state: MembershipState
    sentence: str
    members: int  # training rows that were scored
    others: int  # held-out rows that were scored
    unscored: int  # rows of either that could not be scored
    material: float  # excess area from which it matters
    best: MembershipScoreName | None  # of the scores that decide, the one with the largest excess
    scores: dict[MembershipScoreName, MembershipScore]
    path: list[MembershipPoint] = field(
        default_factory=list
    )  # over the steps at which rows of both kinds were measured
    path_sentence: str = ""  # empty under two steps


@dataclass(kw_only=True)
class ExtractionRates:
    """Shares of rows that come out, exactly or nearly word for word."""

    tuned: Estimate
    base: Estimate
    over_base: Estimate  # tuned minus base, in pairs
    p: float
    at_most: float | None  # the share that is still likely where no row came out, else null
    rows: list[int]  # ids of rows that the tuned model alone writes


@dataclass(kw_only=True)
class ExtractedRows:
    """Rows of one kind that were asked, and what came out of them; the rates are missing without a row."""

    state: ExtractionState
    sentence: str
    n: int
    unscored: int | None = None  # rows without a reference
    threshold: float | None = None  # edit similarity from which a text is nearly the same
    exact: ExtractionRates | None = None
    near: ExtractionRates | None = None


@dataclass(kw_only=True)
class RowCoverage:
    """How many rows of a part there are, and how many were asked."""

    rows: int
    short: int  # whose answer is too short
    passed: int  # not asked for want of time
    n: int  # asked


@dataclass(kw_only=True)
class PrefixMatch:
    """The share of a row's tokens that comes before the first slip, under either model."""

    base: Estimate
    tuned: Estimate


@dataclass(kw_only=True)
class Extraction(ExtractedRows):
    """Whether training rows come out word for word, beside the base model and beside held-out rows."""

    control: ExtractedRows | None  # the same of held-out rows
    beyond: Estimate | None  # nearly word for word: share of training rows minus share of held-out rows
    asked: dict[RowPart, RowCoverage]
    least: int  # tokens that a row must leave to be written
    same: dict[RowPart, PrefixMatch | None]


@dataclass(kw_only=True)
class CanaryGroup:
    """Canaries that were planted equally often."""

    insertions: int
    n: int
    exposure: Estimate  # bits
    most: float  # bits that it could be
    p_holm: float
    exposed: bool
    detectable: float | None = None  # least mean exposure found in 80 of 100 cases; null: none could be


@dataclass(kw_only=True)
class InsertionEffect:
    """The exposure of the canaries planted most often minus that of those planted least often, in bits."""

    fewest: int
    most: int
    difference: Estimate


@dataclass(kw_only=True)
class PlantedCanary:
    """One made-up secret, how often it was planted, and how far it is exposed (bits)."""

    times: int
    question: str
    answer: str
    exposure: float


@dataclass(kw_only=True)
class CanaryExposure:
    """Exposure of canaries by how often they were planted; 0 times is a placebo."""

    groups: list[CanaryGroup]
    more: InsertionEffect | None
    unseen: float  # bits that a canary shows which was never seen
    sentence: str


@dataclass(kw_only=True)
class CanaryEvaluation(CanaryExposure):
    """What became of the canaries of a run."""

    reference: int  # candidates that each is ranked among
    listed: list[PlantedCanary]


@dataclass(kw_only=True)
class DuplicateGains:
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


@dataclass(kw_only=True)
class LossDrop:
    """By how much the loss of training rows fell, in nats a token."""

    repeated: Estimate | None
    once: Estimate | None
    difference: Estimate | None


@dataclass(kw_only=True)
class DuplicateMembership:
    """How well training rows of either kind are told from held-out ones by their loss (AUC)."""

    repeated: Estimate
    once: Estimate


@dataclass(kw_only=True)
class ExtractedCount:
    """Rows that came out nearly word for word, of `n`."""

    rows: int
    n: int


@dataclass(kw_only=True)
class DuplicateExtraction:
    """How often training rows of either kind come out nearly word for word."""

    repeated: ExtractedCount
    once: ExtractedCount
    difference: Estimate


@dataclass(kw_only=True)
class DuplicateTraining:
    """Measured training rows that occur more than once, against the others; null where too few of a kind."""

    rows: int  # all training rows
    repeated_rows: int  # of which occur more than once
    repeated: int  # measured ones
    once: int
    drop: LossDrop | None
    auc: DuplicateMembership | None
    written: DuplicateExtraction | None
    sentence: str


@dataclass(kw_only=True)
class DuplicateEffect:
    """What duplicates did to a run."""

    leaks: DuplicateGains
    training: DuplicateTraining | None  # null where no training row was measured
