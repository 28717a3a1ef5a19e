"""Figures show what their interval supports, and no more."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime
from typing import get_args

import pytest

from pages.shared import display
from pages.shared.display import Color
from store.core import formatting
from store.core.figure_schemas import Estimate
from store.core.job_kinds import TRANSITIONS


@pytest.mark.parametrize(
    ("low", "high", "places"),
    [
        (0.78, 0.88, 2),
        (0.7, 0.96, 2),
        (0.2, 1.4, 1),
        (0.831, 0.839, 3),
        (-10, 10, 0),
        (1, 1, 2),
        (None, None, 2),
    ],
)
def test_digits_follow_the_interval(low: float | None, high: float | None, places: int) -> None:
    assert formatting.compute_decimals(low, high) == places


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [
        (0.8312, 2, "0.83"),
        (-0.5, 1, "−0.5"),
        (-0.001, 2, "0.00"),
        (12345.6, 0, "12,346"),
        (math.nan, 2, "not a number"),
        (-math.inf, 2, "−∞"),
    ],
)
def test_numbers(value: float, places: int, text: str) -> None:
    assert formatting.format_number(value, places) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0%"),
        (0.00001, "under 0.01%"),
        (0.0004, "0.04%"),
        (0.00996, "1.0%"),
        (0.035, "3.5%"),
        (0.0996, "10%"),
        (0.25, "25%"),
        (0.994, "99%"),
        (0.9968, "99.7%"),
        (0.9999, "over 99.9%"),
        (1, "100%"),
        (1.5, "150%"),
    ],
)
def test_shares_keep_the_digits_that_they_need(share: float, text: str) -> None:
    assert formatting.percent(share) == text


def test_a_share_over_a_limit_never_reads_like_the_limit() -> None:
    assert formatting.format_percent_at_limit(0.1004, 0.1) == "10.04%"
    assert formatting.format_percent_at_limit(0.100004, 0.1) == "10.0004%"
    assert formatting.format_percent_at_limit(0.1, 0.1) == "10%"
    assert formatting.format_percent_at_limit(0.021, 0.1) == "2.1%"
    assert formatting.format_percent_at_limit(0.3, None) == "30%"


def test_estimates_carry_their_interval() -> None:
    gain = Estimate(value=0.8312, low=0.781, high=0.882, n=200)
    assert display.format_estimate(gain) == "+0.83 (0.78 to 0.88)"
    loss = Estimate(value=-0.04, low=-0.11, high=0.02, n=9)
    assert display.format_estimate(loss) == "−0.04 (−0.11 to 0.02)"
    share = Estimate(value=0.05, low=0.045, high=0.055, n=9)
    assert display.format_estimate(share, scale=100) == "+5.0 (4.5 to 5.5)"
    single = Estimate(value=0.5, low=None, high=None, n=1)
    assert display.format_estimate(single) == "+0.50 (no interval)"
    rare = replace(single, why="the class xml has 6 rows, and 20 are needed")
    assert display.format_estimate(rare) == "+0.50 (no interval: the class xml has 6 rows, and 20 are needed)"
    assert display.format_estimate(rare, reason=False) == "+0.50 (no interval)"
    assert display.describe_missing_intervals([("F1", rare), ("Accuracy", gain)]) == (
        "F1 has no interval: the class xml has 6 rows, and 20 are needed."
    )
    assert display.format_estimate(None) == "–"


def test_what_goes_from_one_to_the_other_fits_its_card() -> None:
    assert display.format_transition(1.8512, 1.02) == "1.851 → 1.020"
    assert display.format_transition(13.1, 12.4804) == "13.10 → 12.48"
    assert display.format_transition(43.81, 63.04, 1) == "43.8 → 63.0"
    assert display.format_transition(None, float("nan")).startswith("–")


def test_changes_have_signs() -> None:
    assert display.format_signed(0.25, 2) == "+0.25"
    assert display.format_signed(-0.25, 2) == "−0.25"
    assert display.format_signed(0.0, 2) == "0.00"
    assert display.format_transition(1.846, 1.021) == "1.846 → 1.021"
    assert display.format_transition(1.846, None) == "1.846 → –"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0002, "0.0002"),
        (1536.0, "1,536"),
        (4_884_480, "4,884,480"),
        (2.1e-7, "2.1e-07"),
        (0, "0"),
        (-1.23456, "−1.235"),
        (None, "–"),
    ],
)
def test_figures_of_unknown_size(value: float | None, text: str) -> None:
    assert display.format_compact(value) == text


def test_durations() -> None:
    run = {"started_at": datetime(2026, 1, 1, 10, 0), "ended_at": datetime(2026, 1, 1, 10, 4)}
    assert display.format_elapsed(run["started_at"], run["ended_at"]) == "4 min"
    assert display.format_elapsed(run["started_at"], None) == "–"


def test_every_status_has_a_name_and_a_colour_of_the_theme() -> None:
    assert set(display.STATUSES) == set(TRANSITIONS)
    for status in (*display.STATUSES.values(), *display.VERDICTS.values()):
        assert status.color in get_args(Color)
        assert status.icon.startswith(":material/")


def test_unknown_metrics_go_by_their_name() -> None:
    assert display.find_quantity("probe/general/accuracy").title == "probe/general/accuracy"
    assert display.get_arrow("lower") == "↓"


def test_suggested_settings_are_round() -> None:
    assert formatting.round_significant(1e-4 / 3) == 3.3e-5
    assert formatting.round_significant(0) == 0
    assert formatting.plural(1, "row") == "1 row"
    assert formatting.plural(1200, "row") == "1,200 rows"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (6.7e-5, "0.000067"),
        (3e-4, "0.0003"),
        (1e-5, "0.00001"),
        (6.7e-6, "6.7e-06"),
        (0.6, "0.6"),
        (3.0, "3"),
    ],
)
def test_settings_are_written_out(value: float, text: str) -> None:
    assert formatting.format_setting(value) == text


@pytest.mark.parametrize(("value", "text"), [(1234.6, "1,235"), (12.34, "12.3"), (2.718, "2.72")])
def test_perplexities_have_the_digits_of_their_size(value: float, text: str) -> None:
    assert formatting.format_perplexity(value) == text
