"""Rating rounds as the store has them, what their job leaves, what raters are shown and what they said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict, get_args

RatingProtocol = Literal[
    "pairwise", "rank", "rubric", "pass_fail", "correction", "label", "spans", "free_text"
]
RatingSubject = Literal["answer", "prompt"]  # what spans and free text are about


class RatingCriterion(TypedDict):
    """What a rubric asks about one answer."""

    name: str
    question: str
    anchors: list[str]  # what each point means, worst to best; points are 1 to their number


class RaterRound(TypedDict):
    """A rating round as a rater may see it."""

    round_id: str
    title: str
    protocol: RatingProtocol
    instruction: str
    criteria: list[RatingCriterion]  # of a rubric; else empty
    reasons: list[str]  # of pass or fail, to choose from
    ties: bool  # of pairwise: whether "equally good" may be answered
    both_bad: bool  # of pairwise: whether "neither is good" may be answered
    labels: list[str]  # of label and spans, to choose from
    several_labels: bool  # of label: a text may have any number of them
    subject: RatingSubject  # of spans and free text: what is marked or asked about
    overlapping: bool  # of spans: whether two may share characters
    state: Literal["open", "closed"]


class PromptTurn(TypedDict):
    """One turn of the conversation that is answered."""

    role: str  # system, user, assistant or tool; note of a prompt whose text is not in its file
    content: str


class RatingTask(TypedDict):
    """One thing to rate."""

    task_id: str  # random for each item and rater
    prompt: list[PromptTurn]
    answers: list[str]  # in the order to show: A, B, C…
    reference: str | None  # an answer that is known to be good


class PairChoice(TypedDict):
    """The answer of pairwise. A soft vote of elsewhere has a preference: A above 0.5, B below."""

    choice: Literal["A", "B", "tie", "both_bad"]
    preference: NotRequired[float]  # how far the vote is for A, 0 to 1


class AnswerRanks(TypedDict):
    """The answer of rank."""

    ranks: list[int]  # by place of the answer: 1 is best, equal numbers are ties


class RubricScores(TypedDict):
    """The answer of a rubric."""

    scores: dict[str, int]  # by name of the criterion: 1 to the number of its points


class PassOrFail(TypedDict):
    """The answer of pass or fail."""

    passed: bool
    reasons: list[str]


class CorrectedText(TypedDict):
    """The answer of a correction: the better text, or the same where nothing had to be changed."""

    text: str


class LabelAnswer(TypedDict):
    """The answer of label: one of the round's labels, or null where none of them fits."""

    label: str | None
    note: str  # what would fit; with a label empty


class LabelsAnswer(TypedDict):
    """The answer of label where a text may have several: in the round's order, empty where none fits."""

    labels: list[str]
    note: str  # what would fit; with labels empty


class TextSpan(TypedDict):
    """A piece of the text that is marked. Characters are Unicode code points, as Python counts them."""

    start: int
    end: int  # the first character after it
    label: str


class MarkedSpans(TypedDict):
    """The answer of spans: by start, end and label; empty where nothing is to be marked."""

    spans: list[TextSpan]


class WrittenAnswer(TypedDict):
    """The answer of free text, in the rater's own words."""

    written: str


class SkippedTask(TypedDict):
    """The answer of whoever can't tell, whatever the protocol."""

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
    """How far one rater is."""

    done: int
    total: int | None  # null where there is no end to it
    seconds_each: float | None  # their own median; null until it can be known


class StoredRating(TypedDict):
    """A rating as it is stored, to go back to."""

    task: RatingTask
    revision: int  # 1 is the first
    answer: RatingAnswer
    comment: str


class RatingTasks(TypedDict):
    """What a page begins with (command `next_rating_tasks`)."""

    round: RaterRound
    tasks: list[RatingTask]  # none that the page holds already
    progress: RatingProgress
    last: list[StoredRating]  # the person's own, newest first, at most 20
    notice: str | None  # why nothing more comes, in a sentence, where it is not that all is rated


class RatingReceipt(TypedDict):
    """A rating is stored (command `rate`)."""

    stored: Literal[True]
    revision: int  # that is stored now
    already: bool  # it had been stored before: sent twice, or rated in another tab
    progress: RatingProgress
    tasks: list[RatingTask]  # so that the page again holds as many as it may


CheckKind = Literal["gold", "attention", "qualification"]  # of items by which raters are checked
Purpose = Literal["first", "repeat", "adjudication", "gold", "attention", "qualification"]
CHECKS: frozenset[Purpose] = frozenset(get_args(CheckKind))  # of what checks its rater
GOLD_PASS = 0.6  # share of check items to be right, where a round says nothing else
GOLD_TOLERANCE = 1  # points of a rubric by which a score may miss the known one, likewise
COUNTING: frozenset[Purpose] = frozenset({"first", "adjudication"})  # of what is a vote on its item
RoundState = Literal["open", "closed"]


@dataclass(kw_only=True)
class RoundSystem:
    """A model whose answers are rated; raters never see any of this."""

    name: str
    evaluation_id: str | None  # null for prompts of a file, and a round from elsewhere
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
    dataset_id: str | None  # of the prompts; null for those of a file and of a round from elsewhere
    item_count: int
    details: RoundDetails
    created_by: str
    created_by_name: str
    created_at: datetime
    closed_at: datetime | None
    closed_by_name: str | None


def is_imported_round(round: Round) -> bool:
    """Whether it was rated elsewhere and imported: then nobody here was asked anything."""
    return "protocol" not in round.config


@dataclass(kw_only=True)
class RoundSummary(Round):
    """A round in a list, with how far it is."""

    rated: int  # tasks that are rated or skipped
    extra: (
        int  # of them, beside the overlap: repeats, checks, third votes, and more people than were asked for
    )
    wanted: int  # ratings that were asked for: items (of pairwise: pairs of answers) times overlap
    raters: int


@dataclass(kw_only=True)
class RoundDetails:
    """What gathering the answers found."""

    rows: int  # that all models answered
    drawn: int  # of them, as many as were asked for
    named: int  # prompts to which an answer names a model
    left_out: int  # of them, where the round leaves them out
    empty: int  # answers without a character
    same: int  # prompts to which two models gave the same answer
    gold: int
    attention: int | None = None  # items whose right answer is written in their prompt
    qualification: int | None = None  # items with a known answer, before all others
    notices: list[str]
    filters: list[dict[str, Any]] | None = None  # the prompts are rows that each of these means; Filter


@dataclass(kw_only=True)
class RoundItem:
    """A prompt of a round, with what each model answered."""

    item_id: int
    row_id: int | None  # of the data set; null where there is none
    prompt: list[PromptTurn]
    reference: str | None
    answers: list[str | None]  # by the place of the model in `systems`; null where it has none to this item
    named: bool  # an answer names a model
    check: CheckKind | None  # an item by which raters are checked, and whose ratings are no votes
    expected: RatingAnswer | None  # of a check: the right answer, "A" being the first of the item's answers
    weight: float  # 1 / the chance that the prompt had to be chosen, where not all had the same


class RoundItemPage(TypedDict):
    """Some of a round's items, by their ids, of all that a search finds."""

    items: list[RoundItem]
    matches: int  # all that it finds


@dataclass(kw_only=True)
class RoundRequest:
    """A row of table `round_request`: a logged request that an item of a round stands for. An item that was
    asked several times, or answered by several versions, has a row for each."""

    item_id: int
    endpoint_id: str
    request_id: str
    asked_at: datetime
    version: str  # that answered
    role: str
    label: str | None  # that was served, where labels are asked for
    random: bool  # its item is of the random draw, which can judge
    probability: float | None  # of each item to be in that draw; null for a chosen one
    reasons: list[str]  # why it was chosen, in words


class ImportedRatingInfo(TypedDict):
    """What a file of ratings from elsewhere says of how was rated."""

    protocol: RatingProtocol
    ratings: int  # the rows of votes.parquet
    criteria: list[RatingCriterion]  # of scores; else empty
    labels: list[str]  # of labels, the most frequent first; else empty


class RoundResult(TypedDict):
    """The result of the job that gathers the answers; the items are in items.parquet."""

    systems: list[RoundSystem]
    dataset_id: str | None
    details: RoundDetails
    elsewhere: NotRequired[ImportedRatingInfo]  # of a round from elsewhere


class PromptAnswersResult(TypedDict):
    """The result of the job in which a model answers the prompts of a file; the answers are in
    predictions.parquet."""

    n: int  # prompts
    unasked: int  # of them, that the model's chat template refuses
    device: str
    device_name: str


class PromptFile(TypedDict):
    """What a file of prompts has, before a round is started with it."""

    prompts: int
    answers: dict[str, int]  # name of a model -> prompts that it has answered, the most first
    left_out: dict[str, int]  # why rows are no prompts, and how many
    first: list[str]  # the first prompts, cut


@dataclass(kw_only=True)
class AnsweredTask:
    """A task, as much of it as figures of labels read."""

    task_id: str
    item_id: int
    person_id: str
    purpose: Purpose
    repeat_of: str | None  # of a repeat: the task that it shows again
    answer: RatingAnswer | None


@dataclass(kw_only=True)
class AssignedTask(AnsweredTask):
    """A task that was dealt to a rater, and their latest rating of it."""

    person_name: str
    systems: list[int]  # in the order in which they were shown
    place: int  # of the rater's tasks: 0, 1, 2 …
    given_at: datetime
    revision: int | None  # null until it is rated
    comment: str | None
    seconds: float | None
    rated_at: datetime | None


@dataclass(kw_only=True)
class RaterCounts:
    """How much somebody rated in a round."""

    person_id: str
    name: str
    rated: int  # those that were skipped too
    skipped: int
    seconds: float | None  # the median of one; null where none was measured
    last_at: datetime | None


@dataclass(kw_only=True)
class RatableRound:
    """A round as a rater sees it in a list: nothing of who wrote what."""

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
    """What a rater can rate, and has rated."""

    rounds: list[RatableRound]


class RequestRoundQueued(TypedDict):
    """A round of logged requests is being made."""

    round_id: str
    job_ids: list[str]  # none: its answers are there
    items: int
    random: int  # of them, those of the random draw
    left_out: dict[str, int]  # why other requests are not asked, and how many


class RoundRowsQueued(TypedDict):
    """A data set is being made out of a round."""

    job_id: str
    dataset: str  # its name
    rows: int
    left_out: dict[str, int]  # why others are no rows, and how many
    counted: RatingCounts


class ReleasedTaskCounts(TypedDict):
    """Tasks that go to whoever asks next."""

    released: int


class RatingCounts(TypedDict):
    """What training rows of a round rest on, and what they leave out."""

    ratings: int  # votes, without repeats, checks and what was skipped
    raters: int
    left_out: list[ExcludedRatings]


class ExcludedRatings(TypedDict):
    """The ratings of one rater that don't count."""

    person_id: str
    rater: str  # their name
    ratings: int
    reason: str  # "left out by hand", or what the rater is flagged as


@dataclass(kw_only=True)
class QualificationOverride:
    """A rater who goes on although they failed the qualification, and who said so."""

    person_id: str
    by_name: str
    let_in_at: datetime


@dataclass(kw_only=True)
class ExcludedRater:
    """A rater whose ratings don't count, and who said so."""

    person_id: str
    by_name: str
    left_out_at: datetime
