"""The model beneath what an endpoint serves, and what a look measured of answers under it."""

from __future__ import annotations

from typing import TypedDict


class ServedBase(TypedDict):
    """Where the base of a version is to be looked for: one of the three is set."""

    model: str  # registered version NAME@3, model of the home folder, or path
    run: str  # id
    why: str  # that there is none


class ServedBases(TypedDict):
    """`bases.json` of a look that measures perplexity."""

    live: str  # the version whose base measures the reference's rows that no version answered
    bases: dict[str, ServedBase]  # by version


class BaseLook(TypedDict):
    """How many answers of a look were measured under a base, and what that took."""

    measured: int
    left_out: int  # not drawn
    cut: int  # of the measured: longer than the base's context
    reasons: dict[str, int]  # why others have no value
    seconds: float  # of one answer
    loading: float  # seconds until the bases were there
