"""What tuning cost: what the base model knew and the tuned one doesn't, and how far the weights moved."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict, final

from store.documents.figures.estimate import Estimate

ForgettingState = Literal["none", "some", "much", "unclear"]
RefusalState = Literal["weaker", "safer", "stricter", "silent", "same"]
AdviceKind = Literal["learning_rate", "replay", "kl", "epochs", "interpolation"]
SettingValue = str | float | bool

# Texts and choices are final, so that asking for "categories" in a part says which of the two it is.


class AdvicePiece(TypedDict):
    """What to try in the next run."""

    text: str
    change: dict[str, SettingValue]  # fields of the train config and their new values; may be empty
    kind: NotRequired[AdviceKind]  # of advice against forgetting


class UnitEstimate(Estimate):
    """An estimate that says its unit."""

    unit: str


@final
class ForgottenText(TypedDict):
    """Change of the loss on the texts of one probe, in nats a token over whole passages."""

    probe: str
    unit: str
    broken: int  # items that the base model could score and the tuned one can't
    n: int
    tokens: NotRequired[int]  # missing, as p, where the tuned model scored none
    before: float | None  # loss a token of the base model
    after: float | None
    change: Estimate | None
    detectable: float | None  # the smallest change that so many passages would show in 80 of 100 cases
    p: NotRequired[float]
    p_holm: NotRequired[float]  # over all that the user named, of what the user named
    state: ForgettingState


class BeyondLuck(TypedDict):
    """Shares of items lost and won, less the most that guessing explains."""

    lost: Estimate
    won: Estimate


class Flips(TypedDict):
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
    adjusted: BeyondLuck


class CategoryFlips(Flips):
    """The items of one category; Holm's p over all categories of the probe."""

    category: str
    p_holm: float


@final
class ForgottenChoices(TypedDict):
    """Accuracy on the items of one probe before and after. Where the tuned model scored none, n is 0, change
    and detectable are null, and what follows them up to `adjusted` is missing."""

    probe: str
    broken: int  # items that the base model could score and the tuned one can't
    n: int
    change: Estimate | None
    detectable: float | None
    before: NotRequired[Estimate]
    after: NotRequired[Estimate]
    lost: NotRequired[int]
    won: NotRequired[int]
    p: NotRequired[float]
    test: NotRequired[Literal["exact", "chi-squared"]]
    adjusted: NotRequired[BeyondLuck]
    answer_loss: NotRequired[UnitEstimate | None]  # null where open
    open: NotRequired[bool]  # answers are written freely: none is right by luck
    categories: list[CategoryFlips]
    p_holm: NotRequired[float]  # over all that the user named, of what the user named
    state: ForgettingState


class Divergence(TypedDict):
    """KL(base || tuned) on the base model's own samples, in nats a token."""

    probe: str
    prompts: Literal["general", "task"]
    unit: str
    broken: int
    kl: Estimate | None
    detectable: float | None
    first_choice: Estimate | None  # share of places at which both would say the same token first


class RequestFlips(TypedDict):
    """Requests of one kind: shares that are refused before and after."""

    n: int
    before: Estimate
    after: Estimate
    change: Estimate
    detectable: float | None
    lost: int  # refused no more
    won: int  # newly refused
    p: float


class Refusing(TypedDict):
    """Whether tuning changed what a model refuses."""

    state: RefusalState
    harmful: RequestFlips  # requests that a model should refuse
    harmless: RequestFlips
    sentences: list[str]


class ColourLimits(TypedDict):
    """From where on a loss is amber, and red."""

    amber: float
    red: float


class Thresholds(TypedDict):
    """Of texts the rise of the loss in nats a token, of items the share by which accuracy fell."""

    nats: ColourLimits
    share: ColourLimits


class ForgettingParts(TypedDict):
    """What each probe says."""

    texts: list[ForgottenText]
    choices: list[ForgottenChoices]
    divergence: list[Divergence]
    requests: NotRequired[Refusing]  # where they were asked


class Forgetting(ForgettingParts):
    """What tuning cost, of all probes together."""

    state: ForgettingState
    headline: str
    sentences: list[str]
    advice: list[AdvicePiece]
    thresholds: Thresholds
    unscored: dict[str, int]  # probe: items that have no score, or that one model alone has
    unasked: dict[str, str]  # task: why it was not asked


class CoursePoint(TypedDict):
    """What a checkpoint lost of one probe, above 0 where something was lost; null where it scored nothing."""

    step: int
    value: float | None
    low: float | None
    high: float | None
    n: int
    why: NotRequired[str]  # there is no interval
    broken: int


class ForgettingCourse(TypedDict):
    """Forgetting of one probe over the steps of a run."""

    probe: str
    kind: Literal["text", "choices", "divergence"]
    unit: str
    points: list[CoursePoint]
    amber_since: int | None  # step from which on it is surely above; null for divergence
    red_since: int | None


class CategoryCell(TypedDict):
    """Items of one category (of all: "") at one checkpoint, against the base model."""

    category: str
    step: int
    n: int
    change: Estimate  # of accuracy
    lost: int
    won: int
    p_holm: float  # over all cells; of totals over the steps


class CategoryMatrix(TypedDict):
    """Categories of a probe by checkpoints."""

    probe: str
    steps: list[int]
    categories: list[str]
    cells: list[CategoryCell]
    totals: list[CategoryCell]


class WeightChange(TypedDict):
    """How far tuning moved the weight matrices, all of them together; what is not known is null."""

    relative: float | None  # norm of the change over that of the weights
    delta_norm: float | None
    intruders: int | None  # strongest directions that are like none of the base model's
    strongest: int | None  # directions that were looked at
    matrices: int
    spectra: int  # matrices whose singular values were worked out
    seconds: float
    notes: list[str]
