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

OTHER = "other"  # of a category all names that have no test of their own


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


PaceName = Literal["slower", "failing"]


class TimeModel(TypedDict):
    """How long an answer of a length took in the reference, so that half of its answers took longer: seconds,
    and per_prompt and per_completion of each token read and written. No longer or shorter ones than `ranges`
    were in it."""

    seconds: float
    per_prompt: float
    per_completion: float
    ranges: list[list[float]]  # fewest and most tokens, read and written
    limit: float  # an answer that took so many times as long is slow


class OpenMinute(TypedDict):
    """The minute that goes on; it counts once it is over."""

    minute: int  # since 1970
    place: int  # of its first request
    last_place: int
    n: int
    over: int  # requests that were slow, or failed
    bins: dict[str, int]  # of times beside the expected ones -> answers


class SinceChange(TypedDict):
    """What came since the time from which on a change is most likely (Page's cumulative sum)."""

    score: float
    minute: int | None  # null: nothing speaks for a change
    place: int | None
    n: int
    over: int
    bins: dict[str, int]  # of times beside the expected ones -> answers


class PaceTest(TypedDict):
    """Whether answers are slower, or more requests fail, than in the reference."""

    name: PaceName
    warm_up: int  # first requests that are still left out, as a model that was just loaded is slow
    begins_at: float | None  # Unix time of the first request of its reference, s
    ends_at: NotRequired[float | None]  # of the window that its reference comes from, s
    wanted: int  # requests that make its reference
    gathered: list[list[float]]  # of them: seconds, tokens read and written; or 1 where one failed
    reference: int  # of them that are there
    usual: float  # of the reference: seconds that half of its answers exceeded, or the share that failed
    times: TimeModel | None
    allowed: float  # share of a minute's requests that may be over
    shares: list[float]  # of the capital, by bet
    log_wealth: float
    largest: float
    minutes: int  # that were bet on
    tested: int  # requests in them
    unlike: int  # answers of lengths that the reference hasn't, which are not compared
    open: OpenMinute | None
    since: SinceChange
    alarm_place: int | None
    alarm_at: float | None  # Unix time, s


class PaceWatch(TypedDict):
    """Both tests, none before their first request, and the place up to which they have seen requests, or from
    which they begin."""

    place: int
    tests: list[PaceTest]
