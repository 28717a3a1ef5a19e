"""Inspection of an external rating file, and the raters and workload of a round."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(kw_only=True)
class UnusedColumn:
    """An unused column that may matter: an import stops until it is mapped or ignored."""

    name: str
    why: str  # what it may contain, to follow its name in a sentence
    values: list[str]  # the most frequent values of the first rows, at most 4, truncated
    distinct: int  # distinct values in the first rows
    roles: list[str]  # roles that it may play and no other column plays already


@dataclass(kw_only=True)
class UnclearValue:
    """A value of the deciding column without a clear meaning."""

    value: str
    rows: int  # count among the first rows


@dataclass(kw_only=True)
class RatingParticipant:
    """A model or a rater in the file."""

    name: str
    ratings: int


@dataclass(kw_only=True)
class RatingPreview:
    """A rating as it will be stored; texts are truncated."""

    prompt: str
    models: list[str]  # in display order
    answers: list[str | None]
    rater: str
    rating: str  # rating as text


@dataclass(kw_only=True)
class RatingFileSummary:
    """How a file is read. Counts cover all rows if `whole`, else the first `rows`; they are 0 if there is a
    `problem` or if values are unclear.
    """

    form: str | None  # a form of store.rating.rating_files; null if none is recognized
    mapping: dict[str, str]  # role -> column
    values: dict[str, str]  # value of the deciding column -> its meaning
    columns: list[str]
    ignored: list[str]  # unused columns
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
    left_out: dict[str, int]  # reason why rows and ratings are left out -> count
    notices: list[str]
    first: list[RatingPreview]


@dataclass(kw_only=True)
class RaterAccount:
    """An account that may rate."""

    person_id: str
    name: str


@dataclass(kw_only=True)
class Assignment:
    """A person assigned to a round."""

    person_id: str
    quota: int | None  # maximum ratings; null for no limit of their own
    by_name: str  # name of the person who assigned them
    assigned_at: datetime


@dataclass(kw_only=True)
class RaterWorkload:
    """A rater of a round, or a person assigned to it."""

    person_id: str
    person_name: str
    assigned: bool  # assigned to the round
    quota: int | None
    rated: int  # rated tasks, including skips and check tasks
    skipped: int
    held: int  # tasks on hold for them now
    last_active: datetime | None  # last rating or request of their page; null if never
    median_seconds: float | None  # per rating; null until three are timed
    left: int | None  # remaining quota; null without one


@dataclass(kw_only=True)
class Workload:
    """Progress of a round, and its raters."""

    raters: list[RaterWorkload]  # assigned raters first, then by name
    for_everybody: bool  # nobody is assigned, so everyone who may rate does
    ratings_left: int  # until every unit has its ratings; surplus ratings don't count
    wanted: int  # requested ratings
    seconds_of_work_left: float | None  # at the median time of all raters; null until three ratings are timed
    days_left: float | None  # at the pace of the last day; null if it has too few ratings
