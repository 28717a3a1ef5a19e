"""What is watched of an endpoint's requests, and how far each test of it is."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

WatchedName = Literal[
    "input_length",
    "input_language",
    "input_distance",
    "input_topic",
    "output_length",
    "output_refusal",
    "output_repetition",
    "output_label",
    "confidence",
    "output_perplexity",
]


class BetState(TypedDict):
    """One conformal test martingale: what was seen, by bin, and the capital of each bet."""

    bins: list[int]  # those with a value, rising
    counts: list[int]  # of reference and past
    reference_bins: list[int]
    reference_counts: list[int]
    shares: list[float]  # of the capital, by bet; they sum to 1
    log_wealth: float  # logarithm of the capital, which began with 1
    tested: int  # values that were bet on


class DayFigures(TypedDict):
    """The values of one day, by column: of a number its bin, of a category 0 or 1 for each of its names."""

    day: int  # since 1970, UTC
    place: int  # of its first request
    n: int
    sums: list[int]
    squares: list[int]


class DayTest(TypedDict):
    """Whole days against the same weekdays of the first week, which an alarm waits for."""

    first_day: int | None  # of which only a part was seen
    open: DayFigures | None  # the day that goes on
    reference: list[DayFigures]  # one of each weekday
    recent: list[DayFigures]  # at most the last seven after them


class TestState(TypedDict):
    """A watched value: how far it is. A category has one test for each of its names, and their mean
    counts."""

    name: WatchedName
    categories: list[str]  # of a category those that have a test of their own; the last stands for all others
    bets: list[BetState]
    wanted: int  # values that make its reference
    reference: int  # of them that are there
    tested: int  # values after them
    log_wealth: float
    largest: float  # log_wealth at most, since the test began
    lowest: float  # log_wealth at least; it rises from there where something has changed
    lowest_place: int | None  # of the last request, before an alarm, at which it was near that
    lowest_at: float | None  # Unix time of that request, s
    alarm_place: int | None  # of the request at which it first went over the threshold
    alarm_at: float | None
    seed: int  # of how ties are broken
    days: NotRequired[DayTest]  # where the reference is of requests, whose hours and weekdays differ
