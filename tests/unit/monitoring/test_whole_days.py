"""Whole days: what keeps an alarm back, and what brings it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bench.truths import Rate, observe
from bench.truths.monitoring.watched_days import RATES
from engine.monitoring import drift
from engine.monitoring.drift import (
    RequestValue,
    advance_test,
    compute_log_threshold,
    restart_test,
    start_test,
)
from engine.monitoring.endpoint_status import build_status_lines, summarize_status
from engine.monitoring.status_text import StatusSummary, describe_summary
from store.core.monitoring_schemas import DayFigures, DayTest
from store.core.monitoring_schemas import TestState as WatchedState
from store.monitoring.traffic import format_category_name

LIMIT = compute_log_threshold(0.05, 9)
FEW = ("daily cycle, 50", "weekly cycle, 50", "AR(0.9), 50", "bursts, 5% of arrivals, 50", "days differ, 50")


@pytest.mark.parametrize(
    "rate", [rate for rate in RATES if rate.name.startswith(FEW)], ids=lambda rate: rate.name
)
def test_a_month_without_a_change_rarely_raises_an_alarm(rate: Rate) -> None:
    assert observe(rate, 30).share <= 0.1


@pytest.mark.parametrize("columns", [1, 3])
def test_three_days_differ_at_the_level_of_all_windows_of_a_month_and_all_columns(columns: int) -> None:
    """By hand: three days 1, 2 and 3 above their weekdays, of a week whose days are all alike."""

    def day(number: int, mean: int) -> DayFigures:
        sums, squares = ([1000 * value, *[0] * (columns - 1)] for value in (mean, mean * mean))
        return DayFigures(day=number, place=number, n=1000, sums=sums, squares=squares)

    week, recent = [day(number, 10) for number in range(7)], [day(7 + more, 11 + more) for more in range(3)]
    test = DayTest(first_day=0, open=None, reference=week, recent=recent)
    two_sided = 2 * stats.t.sf(2 / math.sqrt(1 / 3), 2)
    alpha = two_sided * columns * 30 * 5  # windows of 3 to 7 days, of each day of a month
    assert drift.find_changed_day(test, 1.01 * alpha) == recent[0]
    assert drift.find_changed_day(test, 0.99 * alpha) is None


def day_by_day(levels: list[float], per_day: int = 40, first: int = 0) -> list[RequestValue]:
    """Lengths of requests, each day at its level, at noon half as long again."""
    rng, values = np.random.default_rng(first), []
    for day, level in enumerate(levels, first):
        for hour in np.sort(rng.uniform(0, 24, per_day)).tolist():
            at = day * drift.DAY + 3_600 * hour
            noon = 1.0 + 0.5 * (9 < hour < 15)
            length = round(level * noon * rng.lognormal(3, 0.2))
            values.append(RequestValue(place=len(values) + first * per_day, at=at, value=float(length)))
    return values


def watched(by_days: bool = True) -> WatchedState:
    """Held against the requests of one night."""
    night = np.random.default_rng(9).lognormal(3, 0.2, 100).round().tolist()
    return start_test("input_length", night, wanted=100, by_days=by_days)


def test_a_daily_cycle_is_evidence_that_is_held_back_and_says_what_it_waits_for() -> None:
    quiet = day_by_day([1.0] * 20)
    assert advance_test(watched(by_days=False), quiet, LIMIT).alarm_place is not None  # each night and noon
    early, late = (advance_test(watched(), quiet[: 40 * days], LIMIT, 0.05 / 9) for days in (3, 20))
    assert early.largest > LIMIT
    assert early.alarm_place is late.alarm_place is None
    for state, words in (
        (early, "confirmation needs 9 more full days"),
        (late, "do not differ from the same weekdays"),
    ):
        (line,) = build_status_lines(["input_length"], [state], None, {}, 0.05, format_category_name)
        assert (line.standing, words in line.note) == ("held", True), line.note
        assert summarize_status([line], 0, 99) == StatusSummary("pending", 1)


def test_a_change_raises_the_alarm_after_whole_days_and_says_since_when() -> None:
    state = advance_test(watched(), day_by_day([1.0] * 12 + [2.0] * 7), LIMIT, 0.05 / 9)
    assert state.alarm_at is not None
    assert 14 <= state.alarm_at / drift.DAY <= 19
    assert state.lowest_at is not None
    assert 10 <= state.lowest_at / drift.DAY <= 13
    again = restart_test(state, same_reference=True)
    assert (len(again.days.reference), again.days.recent) == (7, [])
    assert restart_test(state, same_reference=False).days.reference == []


@pytest.mark.parametrize("size", [1, 7, 64])
def test_batches_of_any_size_end_in_the_same_state(size: int) -> None:
    stream = day_by_day([1.0] * 10 + [3.0] * 6, per_day=12)
    whole, cut = advance_test(watched(), stream, LIMIT), watched()
    for first in range(0, len(stream), size):
        cut = advance_test(cut, stream[first : first + size], LIMIT)
    assert cut == whole
    assert whole.alarm_place is not None


def test_days_without_values_and_values_of_days_before_are_left_out() -> None:
    test = drift.begin_day_test()
    for day in (0, 1, 1, 3):
        drift.add_to_day(test, day * 86_400.0, day, [5])
    drift.add_to_day(test, 86_400.0, 9, [5])  # of a day that has ended
    assert [(each.day, each.n) for each in test.reference] == [(1, 2)]
    assert drift.count_missing_days(test) == 9
    assert drift.find_changed_day(test, 0.05) is None


def test_flags_that_are_rare_or_never_seen_are_no_change() -> None:
    """Three days with one flag in 40 after a week with none differ in nothing from each other."""
    test, detected = drift.begin_day_test(), []
    for day in range(15):
        for n in range(40):
            flag = int(day > 9 and n == 0)
            if drift.add_to_day(test, day * 86_400.0 + n, 40 * day + n, [flag]):
                detected.append(drift.find_changed_day(test, 0.05))
    assert len(detected) >= 5
    assert not any(detected)


@pytest.mark.parametrize("values", [[], [5.0], [5.0, 5.0], [None, float("nan")], [7.0] * 40])
def test_few_odd_and_equal_values_have_a_line_that_can_be_read(values: list[Any]) -> None:
    stream = [RequestValue(place=n, at=n * 90_000.0, value=value) for n, value in enumerate(values)]
    for begun in (watched(), start_test("input_length", [], wanted=30, by_days=True)):
        state = advance_test(begun, stream, LIMIT)
        (line,) = build_status_lines(["input_length"], [state], None, {}, 0.05, format_category_name)
        summary = describe_summary(summarize_status([line], 0, len(values)))
        sentence = f"{line.evidence} {line.strongest} {line.note} {summary}"
        assert "nan" not in sentence.lower()
        assert line.tested + line.reference >= 0
        assert state.alarm_place is None
