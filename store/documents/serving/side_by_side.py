"""Two versions of an endpoint side by side, and what was seen at the last look."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NotRequired, TypedDict

from store.documents.figures.estimate import Estimate

OutcomeKind = Literal["labels", "thumbs", "errors"]  # what makes an answer good: right, liked, given at all


class ArmSeen(TypedDict):
    """One of the two versions. share: of good answers, the mean of its callers; null: of pairs, or none."""

    callers: int
    answers: int
    share: float | None


class SureDifference(TypedDict):
    """The first look at which it could be told from luck, of those that said the same for sure since. The
    last look may be sure no more."""

    verdict: Literal["better", "worse"]  # of the other version
    answers: int
    at: float  # Unix time, s


class ArmsLook(TypedDict):
    """One look at one kind of outcome."""

    look: int  # how many looks at these versions have spent alpha, also at other shares
    few: NotRequired[bool]  # so few callers that nothing could be told; this look spent nothing
    answers: int
    next_look: int  # answers at which is looked again
    at: float  # Unix time, s
    live: ArmSeen
    other: ArmSeen
    left_out: int  # answers that the other one gave in its place, or to a caller of both
    difference: Estimate  # of the shares, the other less live; holds at every look
    p: float
    alpha: float  # that this look spent
    sure: SureDifference | None


class SideBySide(TypedDict):
    """A row of `side_by_side`."""

    endpoint_id: str
    model: str
    live: str
    other: str
    role: Literal["candidate", "shadow"]
    share: float
    noticed_at: datetime
    since: datetime | None
    ended_at: datetime | None
    looks: dict[OutcomeKind, ArmsLook]
