"""Amounts as people say them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from pages.shared import display
from store.core.training_schemas import TimeEstimate


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown"),
        (float("nan"), "unknown"),
        (-1, "unknown"),
        (0.2, "less than a second"),
        (89.6, "90 s"),
        (90, "2 min"),
        (3600, "60 min"),
        (2 * 3600 + 600, "2 h 10 min"),
        (30 * 3600, "30 h"),
        (72 * 3600, "3 days"),
    ],
)
def test_span(seconds: float | None, text: str) -> None:
    assert display.format_duration(seconds) == text


def test_spans_between_share_their_unit() -> None:
    assert display.format_duration_range(240, 360) == "4 to 6 min"
    assert display.format_duration_range(40, 240) == "40 s to 4 min"
    assert display.format_duration_range(240, 245) == "about 4 min"
    assert display.format_duration_range(7800, 9000) == "2 h 10 min to 2 h 30 min"


def test_sizes() -> None:
    assert display.format_size(900) == "900 bytes"
    assert display.format_size(2_147_483_648) == "2.0 GiB"
    assert display.format_gib(0.5) == "512 MiB"
    assert display.format_gib_range(1.7, 2.14) == "1.7 to 2.1 GiB"
    assert display.format_gib_range(0.5, 1.2) == "512 MiB to 1.2 GiB"
    assert display.format_gib_range(1.71, 1.72) == "1.7 GiB"
    assert display.format_parameters(134_515_008) == "135 M"
    assert display.format_count(5_584) == "5,584"


def test_shares_keep_the_digits_that_matter() -> None:
    assert [display.format_share(part, 1000) for part in (0, 0.4, 35, 270)] == ["0%", "0.04%", "3.5%", "27%"]
    assert display.format_share(1, 0) == "0%"


def test_moments_far_away_are_dates() -> None:
    now = datetime(2026, 3, 20, 12)
    assert display.format_ago(now - timedelta(seconds=5), now) == "just now"
    assert display.format_ago(now - timedelta(minutes=5), now) == "5 min ago"
    assert display.format_ago(now - timedelta(days=8), now) == "12 Mar 2026"
    assert display.format_ago(None) == ""


@pytest.mark.parametrize(
    ("changes", "notes"),
    [
        ({}, []),
        ({"may_stop": True}, ["less if it stops early"]),
        ({"busy": True, "others": 0.6}, ["while other processes use 60% of the processors"]),
        (
            {"busy": True, "others": 0.6, "alone_seconds": 240.0},
            ["while other processes use 60% of the processors", "alone about 4 min"],
        ),
    ],
)
def test_what_a_time_holds_for(changes: dict[str, Any], notes: list[str]) -> None:
    time = TimeEstimate(
        seconds=600.0,
        low_seconds=400.0,
        high_seconds=900.0,
        counted_seconds=600.0,
        course_seconds=500.0,
        parts={},
        basis="",
        runs=0,
        steps_timed=True,
        timing="timed",
        busy=False,
        others=0.0,
        alone_seconds=None,
        may_stop=False,
    )
    assert display.list_time_notes(replace(time, **changes)) == notes
