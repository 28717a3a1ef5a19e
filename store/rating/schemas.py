"""A file of ratings from elsewhere before a round is made of it; and who rates a round and how much of it
is left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(kw_only=True)
class UnusedColumn:
    """A column of which nothing would be used though it may matter: an import stops at it until somebody maps
    it or leaves it out."""

    name: str
    why: str  # what it may be, to follow the name in a sentence
    values: list[str]  # the most frequent of the first rows, at most 4, cut
    distinct: int  # values in the first rows
    roles: list[str]  # that it may play, none that a column plays already


@dataclass(kw_only=True)
class UnclearValue:
    """A value of the deciding column that says nothing clear."""

    value: str
    rows: int  # of the first rows


@dataclass(kw_only=True)
class RatingParticipant:
    """A model or a rater of the file."""

    name: str
    ratings: int


@dataclass(kw_only=True)
class RatingPreview:
    """A rating as it will be stored; texts are cut."""

    prompt: str
    models: list[str]  # in the order in which they were shown
    answers: list[str | None]
    rater: str
    rating: str  # in words


@dataclass(kw_only=True)
class RatingFileSummary:
    """How a file is read. Counts are of all its rows where `whole`, else of the first `rows`; they are 0
    while `problem` says what is missing, or values are unclear."""

    form: str | None  # of store.rating.rating_files; null where none is recognised
    mapping: dict[str, str]  # role -> column
    values: dict[str, str]  # value of the deciding column -> what it means
    columns: list[str]
    ignored: list[str]  # columns of which nothing is used
    undecided: list[UnusedColumn]
    unclear: list[UnclearValue]
    problem: str | None
    whole: bool
    rows: int
    ratings: int
    prompts: int
    models: list[RatingParticipant]  # the most rated first, at most 200
    model_count: int
    raters: list[RatingParticipant]
    rater_count: int
    left_out: dict[str, int]  # why rows and ratings are left out, and how many
    notices: list[str]
    first: list[RatingPreview]


@dataclass(kw_only=True)
class RaterAccount:
    """An account that may rate."""

    person_id: str
    name: str


@dataclass(kw_only=True)
class Assignment:
    """A person who is named for a round."""

    person_id: str
    quota: int | None  # ratings at most; null: no limit of their own
    by_name: str  # who named them
    assigned_at: datetime


@dataclass(kw_only=True)
class RaterWorkload:
    """One rater of a round, or one who is named for it."""

    person_id: str
    person_name: str
    assigned: bool  # named for the round
    quota: int | None
    rated: int  # tasks, skips and those for checking among them
    skipped: int
    held: int  # that lie with them now
    last_active: datetime | None  # rated or had their page ask; null: never
    median_seconds: float | None  # for one; null until three are known
    left: int | None  # of their quota; null without one


@dataclass(kw_only=True)
class Workload:
    """How far a round is, and who is at it."""

    raters: list[RaterWorkload]  # those who are named first, then by name
    for_everybody: bool  # nobody is named: whoever may rate does
    ratings_left: int  # until every unit has its ratings; more than what is asked for counts for none
    wanted: int  # ratings that were asked for
    seconds_of_work_left: float | None  # at the median of all raters; null until three ratings are timed
    days_left: float | None  # at the pace of the last day; null where too few were rated in it
