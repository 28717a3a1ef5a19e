"""Who rates a round and how much of it is left, for whoever leads it."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict


class PersonWhoRates(TypedDict):
    """An account that may rate."""

    person_id: str
    name: str


class Assignment(TypedDict):
    """A person who is named for a round."""

    person_id: str
    quota: int | None  # ratings at most; null: no limit of their own
    by_name: str  # who named them
    assigned_at: datetime


class RaterWorkload(TypedDict):
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


class Workload(TypedDict):
    """How far a round is, and who is at it."""

    raters: list[RaterWorkload]  # those who are named first, then by name
    for_everybody: bool  # nobody is named: whoever may rate does
    ratings_left: int  # until every unit has its ratings; more than what is asked for counts for none
    wanted: int  # ratings that were asked for
    seconds_of_work_left: float | None  # at the median of all raters; null until three ratings are timed
    days_left: float | None  # at the pace of the last day; null where too few were rated in it


class RatingsReleased(TypedDict):
    """Tasks that go to whoever asks next."""

    released: int
