"""Rating rounds in the store, the result of their job, what raters are shown, and their ratings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict, get_args

RatingProtocol = Literal[
    "pairwise", "rank", "rubric", "pass_fail", "correction", "label", "spans", "free_text"
]
RatingSubject = Literal["answer", "prompt"]  # subject of spans and free text


class RatingCriterion(TypedDict):
    """A criterion of a rubric, rated for one response."""

    name: str
    question: str
    anchors: list[str]  # meaning of each point, worst to best; points start at 1


class RaterRound(TypedDict):
    """A rating round as visible to a rater."""

    round_id: str
    title: str
    protocol: RatingProtocol
    instruction: str
    criteria: list[RatingCriterion]  # rubric only; else empty
    reasons: list[str]  # pass/fail: options
    ties: bool  # pairwise: whether "equally good" is allowed
    both_bad: bool  # pairwise: whether "neither is good" is allowed
    labels: list[str]  # label and spans: options
    several_labels: bool  # label: a text may have any number of them
    subject: RatingSubject  # spans and free text: what is marked or asked about
    overlapping: bool  # spans: whether two may overlap
    state: Literal["open", "closed"]


class PromptTurn(TypedDict):
    """A turn of the conversation to respond to."""

    role: str  # system, user, assistant or tool; note for a prompt whose text is not in its file
    content: str


class RatingTask(TypedDict):
    """A task of a rater."""

    task_id: str  # random for each item and rater
    prompt: list[PromptTurn]
    answers: list[str]  # in display order: A, B, C…
    reference: str | None  # a response known to be good


class PairChoice(TypedDict):
    """A pairwise rating. An imported soft vote has a preference: A above 0.5, B below."""

    choice: Literal["A", "B", "tie", "both_bad"]
    preference: NotRequired[float]  # strength of the vote for A, 0 to 1


class AnswerRanks(TypedDict):
    """A ranking."""

    ranks: list[int]  # per response, in display order: 1 is best, equal numbers are ties


class RubricScores(TypedDict):
    """A rubric rating."""

    scores: dict[str, int]  # by criterion: 1 to its number of points


class PassOrFail(TypedDict):
    """A pass/fail rating."""

    passed: bool
    reasons: list[str]


class CorrectedText(TypedDict):
    """A correction: the improved text, or the same text if nothing had to be changed."""

    text: str


class LabelAnswer(TypedDict):
    """A label rating: one of the round's labels, or null if none fits."""

    label: str | None
    note: str  # what would fit; empty if there is a label


class LabelsAnswer(TypedDict):
    """A label rating where a text may have several labels: in the round's order, empty if none fits."""

    labels: list[str]
    note: str  # what would fit; empty if there are labels


class TextSpan(TypedDict):
    """A marked part of the text. Offsets are in Unicode code points, as in Python."""

    start: int
    end: int  # exclusive
    label: str


class MarkedSpans(TypedDict):
    """A span rating: sorted by start, end and label; empty if there is nothing to mark."""

    spans: list[TextSpan]


class WrittenAnswer(TypedDict):
    """A free-text rating, in the rater's own words."""

    written: str


class SkippedTask(TypedDict):
    """A skipped task, for any protocol."""

    skipped: Literal[True]
    reason: str


RatingAnswer = (
    PairChoice
    | AnswerRanks
    | RubricScores
    | PassOrFail
    | CorrectedText
    | LabelAnswer
    | LabelsAnswer
    | MarkedSpans
    | WrittenAnswer
    | SkippedTask
)


class RatingProgress(TypedDict):
    """Progress of one rater."""

    done: int
    total: int | None  # null if unlimited
    seconds_each: float | None  # their own median; null until it can be computed


class StoredRating(TypedDict):
    """A stored rating, to go back to."""

    task: RatingTask
    revision: int  # 1 is the first
    answer: RatingAnswer
    comment: str


class RatingTasks(TypedDict):
    """What a rating page starts with (command `next_rating_tasks`)."""

    round: RaterRound
    tasks: list[RatingTask]  # without those that the page already has
    progress: RatingProgress
    last: list[StoredRating]  # the person's own, newest first, at most 20
    notice: str | None  # a sentence why there are no more tasks, unless all are rated


class RatingReceipt(TypedDict):
    """Confirmation of a stored rating (command `rate`)."""

    stored: Literal[True]
    revision: int  # the stored revision
    already: bool  # it was stored before: sent twice, or rated in another tab
    progress: RatingProgress
    tasks: list[RatingTask]  # fill the page up to its limit again


CheckKind = Literal["gold", "attention", "qualification"]  # items that check raters
Purpose = Literal["first", "repeat", "adjudication", "gold", "attention", "qualification"]
CHECKS: frozenset[Purpose] = frozenset(get_args(CheckKind))  # tasks that check their rater
GOLD_PASS = 0.6  # default share of check items that must be right
GOLD_TOLERANCE = 1  # default tolerance of a rubric score, in points
COUNTING: frozenset[Purpose] = frozenset({"first", "adjudication"})  # votes on their item
RoundState = Literal["open", "closed"]


@dataclass(kw_only=True)
class RoundSystem:
    """A model whose responses are rated; never visible to raters."""

    name: str
    evaluation_id: str | None  # null for prompts of a file and for an imported round
    run_id: str | None
    model: str
    checkpoint: str


@dataclass(kw_only=True)
class Round:
    """A row of table `rating_round`."""

    round_id: str  # the id of its job
    name: str
    notes: str
    protocol: RatingProtocol
    config: dict[str, Any]  # store.rating.config.RoundConfig
    systems: list[RoundSystem]
    state: RoundState
    dataset_id: str | None  # of the prompts; null for prompts of a file and for an imported round
    item_count: int
    details: RoundDetails
    created_by: str
    created_by_name: str
    created_at: datetime
    closed_at: datetime | None
    closed_by_name: str | None


def is_imported_round(round: Round) -> bool:
    """Return whether the round was rated elsewhere and imported, without any rater here."""
    return "protocol" not in round.config


@dataclass(kw_only=True)
class RoundSummary(Round):
    """A round in a list, with its progress."""

    rated: int  # rated or skipped tasks
    extra: int  # of these, beyond the overlap: repeats, checks, third votes, and more people than requested
    wanted: int  # requested ratings: items (pairwise: pairs of responses) times overlap
    raters: int


@dataclass(kw_only=True)
class RoundDetails:
    """What was counted while gathering the responses."""

    rows: int  # answered by all models
    drawn: int  # of these, sampled as requested
    named: int  # prompts with a response that names a model
    left_out: int  # of these, if the round excludes them
    empty: int  # empty responses
    same: int  # prompts with the same response from two models
    gold: int
    attention: int | None = None  # items whose right answer is given in their prompt
    qualification: int | None = None  # items with a known answer, shown before all others
    notices: list[str]
    filters: list[dict[str, Any]] | None = None  # the prompts are rows that match all of these; Filter


@dataclass(kw_only=True)
class RoundItem:
    """A prompt of a round, with the responses of all models."""

    item_id: int
    row_id: int | None  # in the data set; null if there is none
    prompt: list[PromptTurn]
    reference: str | None
    answers: list[str | None]  # in the order of `systems`; null if a model has none for this item
    named: bool  # a response names a model
    check: CheckKind | None  # an item that checks raters; its ratings don't count as votes
    expected: RatingAnswer | None  # for a check: the right answer; "A" is the item's first response
    weight: float  # 1 / sampling probability of the prompt, if these differ


class RoundItemPage(TypedDict):
    """A page of the round items that match a search, ordered by id."""

    items: list[RoundItem]
    matches: int  # total number of matches


@dataclass(kw_only=True)
class RoundRequest:
    """Row of table `round_request`: a logged request that an item of a round stands for. An item that was
    requested several times, or answered by several versions, has a row for each.
    """

    item_id: int
    endpoint_id: str
    request_id: str
    asked_at: datetime
    version: str  # version that responded
    role: str
    label: str | None  # the served label, for rounds that ask for labels
    random: bool  # its item is in the random sample, which can judge
    probability: float | None  # of the item being in that sample; null for a selected one
    reasons: list[str]  # why it was selected, as text


class ImportedRatingInfo(TypedDict):
    """What an imported file of ratings contains."""

    protocol: RatingProtocol
    ratings: int  # rows of votes.parquet
    criteria: list[RatingCriterion]  # for scores; else empty
    labels: list[str]  # for labels, most frequent first; else empty


class RoundResult(TypedDict):
    """Result of the job that gathers the responses; the items are in items.parquet."""

    systems: list[RoundSystem]
    dataset_id: str | None
    details: RoundDetails
    elsewhere: NotRequired[ImportedRatingInfo]  # for an imported round


class PromptAnswersResult(TypedDict):
    """Result of the job in which a model responds to the prompts of a file; the responses are in
    predictions.parquet.
    """

    n: int  # number of prompts
    unasked: int  # of these, rejected by the model's chat template
    device: str
    device_name: str


class PromptFile(TypedDict):
    """Content of a prompt file, before a round is started with it."""

    prompts: int
    answers: dict[str, int]  # model name -> prompts that it answered, most first
    left_out: dict[str, int]  # reason why rows are not prompts -> rows
    first: list[str]  # the first prompts, truncated


@dataclass(kw_only=True)
class AnsweredTask:
    """A task, with the fields that label statistics need."""

    task_id: str
    item_id: int
    person_id: str
    purpose: Purpose
    repeat_of: str | None  # for a repeat: the repeated task
    answer: RatingAnswer | None


@dataclass(kw_only=True)
class AssignedTask(AnsweredTask):
    """A task assigned to a rater, with their latest rating of it."""

    person_name: str
    systems: list[int]  # in display order
    place: int  # position among the rater's tasks: 0, 1, 2 …
    given_at: datetime
    revision: int | None  # null until it is rated
    comment: str | None
    seconds: float | None
    rated_at: datetime | None


@dataclass(kw_only=True)
class RaterCounts:
    """How many tasks a rater has rated in a round."""

    person_id: str
    name: str
    rated: int  # skipped ones included
    skipped: int
    seconds: float | None  # median per task; null if not measured
    last_at: datetime | None


@dataclass(kw_only=True)
class RatableRound:
    """A round in a rater's list, without the models behind the responses."""

    round_id: str
    name: str
    protocol: RatingProtocol
    state: RoundState
    instruction: str
    created_by_name: str
    created_at: str  # ISO 8601, UTC
    done: int
    total: int | None


class RatableRounds(TypedDict):
    """Rounds that a rater can rate or has rated."""

    rounds: list[RatableRound]


class RequestRoundQueued(TypedDict):
    """Confirmation that a round of logged requests is being created."""

    round_id: str
    job_ids: list[str]  # empty if its responses exist already
    items: int
    random: int  # of these, in the random sample
    left_out: dict[str, int]  # reason why other requests are excluded -> requests


class RoundRowsQueued(TypedDict):
    """Confirmation that a data set is being created from a round."""

    job_id: str
    dataset: str  # name of the data set
    rows: int
    left_out: dict[str, int]  # reason why others are excluded -> count
    counted: RatingCounts


class ReleasedTaskCounts(TypedDict):
    """Tasks released for the next rater."""

    released: int


class RatingCounts(TypedDict):
    """Ratings behind the training rows of a round, and excluded ones."""

    ratings: int  # votes, without repeats, checks and skipped tasks
    raters: int
    left_out: list[ExcludedRatings]


class ExcludedRatings(TypedDict):
    """Ratings of one rater that are excluded."""

    person_id: str
    rater: str  # name of the rater
    ratings: int
    reason: str  # "left out by hand", or the rater's flag


@dataclass(kw_only=True)
class QualificationOverride:
    """A rater who was allowed to continue despite failing the qualification, and who allowed it."""

    person_id: str
    by_name: str
    let_in_at: datetime


@dataclass(kw_only=True)
class ExcludedRater:
    """A rater whose ratings are excluded, and who excluded them."""

    person_id: str
    by_name: str
    left_out_at: datetime
