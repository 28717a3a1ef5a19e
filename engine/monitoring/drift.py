"""Drift tests of an endpoint: the monitored values with their fixed bins, and tests that advance with new
requests.

Each of m monitored values raises an alert at a capital of m / alpha (Bonferroni). If the reference has
timestamps, an alert also needs full days that differ from the same weekdays of the first week (Student's t).
The result depends only on state and values, not on batch sizes. Pure.
"""

from __future__ import annotations

import copy
import math
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from engine.monitoring.sequential_tests import begin_bets, draw_ties, place_bets
from store.core.monitoring_schemas import OTHER, DayFigures, DayTest, MartingaleState, TestState, WatchedName

Scale = Literal["length", "share", "distance", "logprob", "perplexity", "category"]
Side = Literal["input", "output", "confidence"]

NameFormatter = Callable[[WatchedName, str], str]  # formats a name of a category


@dataclass(frozen=True)
class WatchedSignal:
    """One value of a request. noun: its name within a sentence."""

    name: WatchedName
    title: str
    noun: str
    side: Side
    scale: Scale
    unit: str = ""

    @property
    def is_category(self) -> bool:
        return self.scale == "category"


WATCHED_SIGNALS: dict[WatchedName, WatchedSignal] = {
    watched.name: watched
    for watched in (
        WatchedSignal("input_length", "Prompt length", "prompt length", "input", "length", "characters"),
        WatchedSignal("input_language", "Prompt language", "prompt languages", "input", "category"),
        WatchedSignal(
            "input_distance", "Prompt distance", "prompt distance", "input",
            "distance", "cosine distance to the nearest reference prompts",
        ),
        WatchedSignal("input_topic", "Prompt topics", "prompt topics", "input", "category"),
        WatchedSignal(
            "output_length", "Response length", "response length", "output", "length", "characters"
        ),
        WatchedSignal("output_refusal", "Refusal rate", "the refusal rate", "output", "share",
            "share of responses"),
        WatchedSignal(
            "output_repetition", "Response repetition", "repetition in responses", "output",
            "share", "share of repeated word trigrams",
        ),
        WatchedSignal("output_label", "Predicted labels", "predicted labels", "output", "category"),
        WatchedSignal(
            "confidence", "Confidence", "model confidence", "confidence", "logprob",
            "mean log-probability of a token, or log-probability of a label, nats",
        ),
        WatchedSignal(
            "output_perplexity", "Base-model perplexity", "the perplexity of responses under the base model",
            "output", "perplexity", "perplexity of a response",
        ),
    )
}  # fmt: skip

LENGTH_STEP = math.log(1.02)
SHARE_STEP = 0.005
DISTANCE_STEP = 0.004
LOGPROB_STEP = 0.01
NATS_STEP = 0.01  # of perplexity: 1%
MAX_BIN = 1_500


def compute_bins(scale: Scale, values: ArrayLike) -> NDArray[np.int64]:
    """The bin of each value; for a perplexity, of its logarithm. Raises ValueError for a category."""
    value = np.asarray(values, np.float64)
    if scale == "length":
        place = np.log1p(np.maximum(value, 0)) / LENGTH_STEP
    elif scale == "share":
        place = value / SHARE_STEP
    elif scale == "distance":
        place = value / DISTANCE_STEP
    elif scale == "perplexity":
        place = value / NATS_STEP
    elif scale == "logprob":
        place = MAX_BIN + value / LOGPROB_STEP
    else:
        raise ValueError(f"{scale} has no bins.")
    return np.clip(np.round(place), 0, MAX_BIN).astype(np.int64)


def compute_bin_value(scale: Scale, place: float) -> float:
    """The value at the center of a bin."""
    if scale == "length":
        return math.expm1(place * LENGTH_STEP)
    if scale == "share":
        return place * SHARE_STEP
    if scale == "distance":
        return place * DISTANCE_STEP
    if scale == "perplexity":
        return place * NATS_STEP
    return (place - MAX_BIN) * LOGPROB_STEP


# Do full days still resemble those of the first week? An alert needs this confirmation.
#
# A test of single requests assumes random sampling. Real requests vary with hour and weekday, callers send
# bursts, and consecutive responses are correlated. Averaging over a day removes most of that, and the rest is
# part of the variation between days. So each full day is compared with the same weekday of the first week,
# and the mean of these differences over the last 3 to 7 days with their own spread, by Student's t. The days
# of a window have different weekdays, so no two share a reference day. The spread is never assumed to be
# smaller than the values within days imply, because a few flags may be equal by chance. Each day has five
# windows, and a month of them shares alpha (Bonferroni). UTC. Pure.

DAY = 86_400
WEEK = 7  # days of the reference
MIN_WINDOW = 3  # days
NORMAL_MAD = 1.4826  # standard deviation of normal values per median absolute deviation
LOOKS_A_MONTH = 30 * (WEEK - MIN_WINDOW + 1)


def begin_day_test() -> DayTest:
    """The state before the first value."""
    return DayTest(first_day=None, open=None, reference=[], recent=[])


def restart_day_test(test: DayTest, *, same_reference: bool) -> DayTest:
    """The state after an acknowledged alert. The current day does not count as a full day."""
    return replace(begin_day_test(), reference=test.reference) if same_reference else begin_day_test()


def add_to_day(test: DayTest, at: float, place: int, values: Sequence[int]) -> bool:
    """Add one request, with one value per column. Returns whether a day was completed that can be compared
    with the reference. Changes `test`."""
    day, closed = int(at // DAY), False
    if test.first_day is None:
        test.first_day = day  # seen only in part
    if test.open is not None and day > test.open.day:
        closed = _close_day(test)
    if day == test.first_day:
        return closed
    sums, squared = [0] * len(values), [0] * len(values)
    figures = test.open or DayFigures(day=day, place=place, n=0, sums=sums, squares=squared)
    if day < figures.day:
        return closed  # late: its day is complete
    test.open = figures
    figures.n += 1
    figures.sums = [total + value for total, value in zip(figures.sums, values, strict=True)]
    squares = zip(figures.squares, values, strict=True)
    figures.squares = [total + value * value for total, value in squares]
    return closed


def _close_day(test: DayTest) -> bool:
    """Move the completed day to the reference or the recent days; True if it can be compared with its
    weekday."""
    ended, test.open = test.open, None
    assert ended is not None
    if _find_same_weekday(test, ended) is None and len(test.reference) < WEEK:
        test.reference.append(ended)
        return False
    test.recent = [*test.recent, ended][-WEEK:]
    return True


def _find_same_weekday(test: DayTest, figures: DayFigures) -> DayFigures | None:
    weekday = figures.day % WEEK
    return next((each for each in test.reference if each.day % WEEK == weekday), None)


def count_missing_days(test: DayTest) -> int:
    """Full days that are still needed for a result."""
    return WEEK - len(test.reference) + max(0, MIN_WINDOW - len(test.recent))


def find_changed_day(test: DayTest, alpha: float) -> DayFigures | None:
    """The first day of the shortest window that differs significantly; None if none does. alpha: per month,
    for this monitored value."""
    pairs = [(day, before) for day in test.recent if (before := _find_same_weekday(test, day)) is not None]
    level = alpha / LOOKS_A_MONTH
    for length in range(MIN_WINDOW, min(WEEK, len(pairs)) + 1):
        window = pairs[-length:]
        if window[-1][0].day - window[0][0].day >= WEEK:
            break  # days are missing, so a weekday would occur twice
        columns = len(window[0][0].sums)
        limit = float(special.stdtrit(length - 1, 1 - level / columns / 2))
        if any(_compute_t(window, test.reference, column) > limit for column in range(columns)):
            return window[0][0]
    return None


def _compute_t(
    window: Sequence[tuple[DayFigures, DayFigures]], reference: Sequence[DayFigures], column: int
) -> float:
    """The mean difference of the days in standard errors."""
    gaps = np.array([_mean(day, column) - _mean(before, column) for day, before in window])
    of_values = float(
        np.mean(
            [
                _compute_error_variance(day, column) + _compute_error_variance(before, column)
                for day, before in window
            ]
        )
    )
    usual = 2 * _estimate_usual_spread(np.array([_mean(day, column) for day in reference])) ** 2
    error = math.sqrt(max(float(gaps.var(ddof=1)), of_values, usual) / len(gaps))
    size = abs(float(gaps.mean()))
    return size / error if error else (math.inf if size else 0.0)


def _estimate_usual_spread(means: NDArray[np.float64]) -> float:
    """Standard deviation of reference days, estimated by the median absolute deviation, which two weekend
    days don't affect. If days drift, those of one window are closer to each other."""
    return NORMAL_MAD * float(np.median(np.abs(means - np.median(means))))


def _mean(day: DayFigures, column: int) -> float:
    return day.sums[column] / day.n


def _compute_error_variance(day: DayFigures, column: int) -> float:
    """Variance of the mean of independent values of a day, with one more value at either end: a day without a
    flag may still have a positive rate."""
    n, mean = day.n, _mean(day, column)
    return max(day.squares[column] / n - mean * mean + 1 / (n + 1), 0.0) / n


# The tests of all monitored values, advanced by new requests.
#
# Monitored values share alpha: each of m values raises an alert at a capital of m / alpha, so the chance of
# any false alert is at most alpha (Bonferroni, valid under any dependence). A category has one test per name,
# of whether a request has that name; their mean is again a test. A value with too small a reference uses its
# first values as the reference and tests later ones. The result depends only on state and values, not on
# batch sizes.
#
# The test of single values assumes random sampling, which does not hold for hours, weekdays and callers of an
# endpoint. So if the reference consists of requests, evidence is shown at once, but an alert waits until full
# days differ from the same weekdays of the first week. Rows of a data set or an evaluation have no time, so
# there the evidence alone raises the alert: current requests differ from these rows. Pure.

MAX_NAMES = 8  # of a category with their own test
MIN_REFERENCE = 30  # values
NEAR_LOWEST = 1.0  # above the minimum log capital; the rise starts at the last value this close

Value = float | str | None


@dataclass(kw_only=True)
class RequestValue:
    """A monitored value of one request; null if it has none."""

    place: int
    at: float
    value: Value


def compute_log_threshold(alpha: float, watched: int) -> float:
    """Logarithm of the capital at which one of `watched` values raises an alert."""
    return math.log(max(1, watched) / alpha)


def start_test(
    name: WatchedName,
    reference: Sequence[Value],
    *,
    categories: Sequence[str] = (),
    wanted: int,
    seed: int = 0,
    by_days: bool = False,
) -> TestState:
    """A test before its first value. categories: names of a category; they must come from other rows than
    `reference`, because selecting the most common names biases their counts. by_days: alerts need full
    days."""
    names = [*list(dict.fromkeys(categories))[:MAX_NAMES], OTHER] if WATCHED_SIGNALS[name].is_category else []
    state = TestState(
        name=name,
        categories=names,
        bets=[],
        wanted=max(wanted, MIN_REFERENCE),
        reference=0,
        tested=0,
        log_wealth=0.0,
        largest=0.0,
        lowest=0.0,
        lowest_place=None,
        lowest_at=None,
        alarm_place=None,
        alarm_at=None,
        seed=zlib.crc32(f"{seed}/{name}".encode()),
    )
    if by_days:
        state.days = begin_day_test()
    present = [value for value in reference if _is_present(value)]
    state.bets = [begin_bets(column) for column in build_columns(state, present)]
    state.reference = len(present)
    if len(present) >= MIN_REFERENCE:
        state.wanted = len(present)  # a chosen reference may be small
    return state


def restart_test(state: TestState, *, same_reference: bool) -> TestState:
    """The test after an acknowledged alert, against the same reference or, for a new normal, against future
    values."""
    fresh = start_test(state.name, [], categories=state.categories[:-1], wanted=state.wanted)
    fresh.seed = state.seed + 1
    if state.days is not None:
        fresh.days = restart_day_test(state.days, same_reference=same_reference)
    if same_reference:
        fresh.bets = [begin_bets(_list_reference_bins(part)) for part in state.bets]
        fresh.reference = state.reference
    return fresh


def advance_test(
    state: TestState, values: Sequence[RequestValue], log_threshold: float, alpha: float = 0.05
) -> TestState:
    """The test after these values, in order of their places. alpha: of this value, per month."""
    present = [value for value in values if _is_present(value.value)]
    lacking = max(0, state.wanted - state.reference)
    state = _extend_reference(state, [value.value for value in present[:lacking]])
    tested = present[lacking:]
    after = _test_values(state, tested, log_threshold) if tested else state
    return (
        _apply_day_test(state, after, present, log_threshold, alpha)
        if state.days is not None and present
        else after
    )


def _is_present(value: Value) -> bool:
    """NaN counts as missing."""
    return value is not None and value == value


def _apply_day_test(
    before: TestState, after: TestState, values: Sequence[RequestValue], log_threshold: float, alpha: float
) -> TestState:
    """Add values to their days. The alert is raised on the first full day that confirms the evidence of
    single values."""
    days = copy.deepcopy(before.days)
    assert days is not None  # only called with a day test
    state = replace(after, days=days)
    state.alarm_place, state.alarm_at = before.alarm_place, before.alarm_at
    columns = build_columns(before, [value.value for value in values])
    for value, row in zip(values, zip(*columns, strict=True), strict=True):
        closed = add_to_day(days, value.at, value.place, [int(each) for each in row])
        if not closed or state.alarm_place is not None or after.largest < log_threshold:
            continue
        since = find_changed_day(days, alpha)
        if since is not None:
            state.alarm_place, state.alarm_at = value.place, value.at
            state.lowest_place, state.lowest_at = since.place, float(since.day * DAY)
    return state


def _extend_reference(state: TestState, values: Sequence[Value]) -> TestState:
    """Add values to the reference."""
    if not values:
        return state
    columns = build_columns(state, values)
    bets = [
        begin_bets(np.concatenate([_list_reference_bins(part), column]))
        for part, column in zip(state.bets, columns, strict=True)
    ]
    return replace(state, bets=bets, reference=state.reference + len(values))


def _test_values(state: TestState, values: Sequence[RequestValue], log_threshold: float) -> TestState:
    columns = build_columns(state, [value.value for value in values])
    bets, paths = [], []
    for number, (part, column) in enumerate(zip(state.bets, columns, strict=True)):
        random = draw_ties(state.seed + 7_919 * number, state.tested, len(column))
        path = place_bets(part, column, random)
        bets.append(path.state)
        paths.append(path.log_wealth)
    wealth = np.logaddexp.reduce(np.array(paths), axis=0) - math.log(len(paths))
    after = replace(state, bets=bets, tested=state.tested + len(values))
    after.log_wealth = float(wealth[-1])
    after.largest = max(state.largest, float(wealth.max()))
    over = np.flatnonzero(wealth >= log_threshold)
    end = len(wealth)
    if state.alarm_place is None and len(over):
        end = int(over[0]) + 1
        after.alarm_place, after.alarm_at = values[end - 1].place, values[end - 1].at
    if state.alarm_place is None:  # values before the alert determine the change point
        lowest = np.minimum.accumulate(np.append(state.lowest, wealth[:end]))[1:]
        after.lowest = float(lowest[-1])
        near = np.flatnonzero(wealth[:end] <= lowest + NEAR_LOWEST)
        if len(near):
            low = values[int(near[-1])]
            after.lowest_place, after.lowest_at = low.place, low.at
    return after


def build_columns(state: TestState, values: Sequence[Value]) -> list[NDArray[np.int64]]:
    """The bins of each test: one for a number, one per name for a category."""
    watched = WATCHED_SIGNALS[state.name]
    if not watched.is_category:
        return [compute_bins(watched.scale, [float(value) for value in values if value is not None])]
    names = [value if value in state.categories else OTHER for value in values]
    return [np.array([name == category for name in names], np.int64) for category in state.categories]


def _list_reference_bins(part: MartingaleState) -> NDArray[np.int64]:
    """The bins of all reference values, with repetition."""
    return np.repeat(np.array(part.reference_bins, np.int64), part.reference_counts)


def choose_names(values: Mapping[str, int] | Sequence[str]) -> list[str]:
    """The most common names of a category, which have their own test."""
    counts = values if isinstance(values, Mapping) else Counter(values)
    return sorted(counts, key=lambda name: (-counts[name], name))[:MAX_NAMES]
