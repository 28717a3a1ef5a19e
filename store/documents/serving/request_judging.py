"""What a judge says of logged requests, and what people say of some of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypedDict

from store.documents.rating.round import RoundDetails


class WindowOfRequests(TypedDict):
    """Requests of a window."""

    requests: int  # that were answered live or by a candidate
    left_out: int  # of them, whose text is not kept


class RequestJudging(WindowOfRequests):
    """What the job `judge_requests` leaves, beside `judgements.parquet`."""

    sample: int  # different answers of the random sample
    rated: int  # answers that people rated, judged beside
    judged: int  # of both, those that the judge gave a verdict on
    reasons: dict[str, int]  # why it gave none, and how many
    calls: int
    cached: int
    seconds: float


class JudgedAnswer(TypedDict):
    """One different answer, by the judge and by people."""

    version: str
    grouped_by: str | None
    at_random: bool  # of the judge's random sample; else it is there as people rated it
    passed: bool | None  # by the judge
    in_frame: bool  # of the requests that the round drew from which corrects the judge
    people: float | None  # the share of its raters that passed it


class RoundOfRequests(TypedDict):
    """A round, pass or fail, that may correct a judge."""

    round_id: str
    name: str
    config: dict[str, Any]  # RoundConfig
    details: RoundDetails
    drawn_at: datetime


class CorrectingRound(TypedDict):
    """The round whose random items correct a judge, on the requests that it and the judge's window share."""

    round_id: str
    name: str
    start: datetime
    end: datetime
    version: str  # whose answers alone it asked about; empty for all
    notices: list[str]
