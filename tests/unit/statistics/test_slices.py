"""Slices of an evaluation: which stand out, and how few do so by chance alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.truths import Rate, observe
from bench.truths.models.slices import RATES
from engine.evaluation.comparison.row_scores import (
    build_size_slices,
    build_value_slices,
    compute_slice_differences,
    compute_slice_scores,
)


def test_a_slice_that_is_worse_is_found_with_its_interval() -> None:
    labels = ["a", "b", "c", "d"] * 50
    scores = np.array(
        [0.0 if label == "c" and i % 3 else 1.0 if i % 5 else 0.0 for i, label in enumerate(labels)]
    )
    slices = compute_slice_scores(scores, build_value_slices("Label", labels))
    assert [row["different"] for row in slices] == [True, *[row["different"] for row in slices[1:]]]
    worst = slices[0]
    assert (worst["by"], worst["value"], worst["n"]) == ("Label", "c", 50)
    assert worst["mean"].low < worst["mean"].value < worst["mean"].high
    assert worst["gap"] == pytest.approx(worst["mean"].value - worst["rest"])
    assert worst["q"] >= worst["p"]


def test_p_values_are_adjusted_as_benjamini_and_hochberg_do() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 12, 600).astype(str).tolist()
    slices = compute_slice_scores(rng.normal(size=600), build_value_slices("Label", labels))
    adjusted = stats.false_discovery_control([row["p"] for row in slices])
    assert [row["q"] for row in slices] == pytest.approx(adjusted.tolist())


def test_by_chance_alone_few_sets_of_slices_have_one_that_differs() -> None:
    rng = np.random.default_rng(1)
    false = 0
    for _ in range(120):
        labels = rng.integers(0, 10, 200).astype(str).tolist()
        scores = (rng.random(200) < 0.6).astype(float)
        false += any(
            row["different"] for row in compute_slice_scores(scores, build_value_slices("Label", labels))
        )
    assert false <= 12  # 5% of 120, and twice that for luck


def test_pairs_are_compared_within_each_slice() -> None:
    labels = ["a"] * 40 + ["b"] * 40
    second = np.zeros(80)
    first = np.concatenate([np.ones(20), np.zeros(60)])
    slices = {
        row["value"]: row
        for row in compute_slice_differences(first, second, build_value_slices("Label", labels))
    }
    assert slices["a"]["gap"].value == 0.5
    assert slices["a"]["different"]
    assert (slices["b"]["gap"].value, slices["b"]["p"], slices["b"]["different"]) == (0, 1, False)


def test_lengths_are_cut_into_quarters_and_equal_ones_are_none() -> None:
    quarters = build_size_slices("Prompt", np.arange(100), "characters")
    assert [int(rows.sum()) for rows in quarters.values()] == [25, 25, 25, 25]
    assert next(iter(quarters)) == ("Prompt", "0 to 24 characters")
    assert build_size_slices("Prompt", np.full(100, 7.0), "characters") == {}
    repeated = build_size_slices("Prompt", [1.0] * 60 + [5.0] * 40, "words")
    assert sum(int(rows.sum()) for rows in repeated.values()) == 100


def test_rows_of_one_length_are_named_by_it() -> None:
    names = [name for _, name in build_size_slices("Prompt", [32.0] * 30 + [33.0] * 8, "characters")]
    assert names == ["32 characters", "33 characters"]


def test_few_rows_are_shown_and_not_tested_and_rows_without_a_score_are_left_out() -> None:
    scores = np.array([1.0, np.nan, 0.0, 1.0] + [1.0] * 20)
    slices = compute_slice_scores(scores, build_value_slices("Label", ["x", "x", "x", "x"] + ["y"] * 20))
    small = next(row for row in slices if row["value"] == "x")
    assert (small["n"], small["p"], small["q"], small["different"]) == (3, None, None, False)
    assert small["why"] == "3 rows (from 5 on)"
    assert build_value_slices("Label", ["x", None, "x"]) == {}


def test_rows_that_all_agree_are_no_certainty() -> None:
    labels = ["a"] * 6 + ["b"] * 6
    (row, _) = compute_slice_differences(np.ones(12), np.ones(12), build_value_slices("Label", labels))
    assert row["gap"].low < -0.3 < 0 < 0.3 < row["gap"].high  # of six rows
    (other, _) = compute_slice_differences(
        np.full(12, 7.5), np.full(12, 5.0), build_value_slices("Label", labels)
    )
    assert (other["gap"].value, other["gap"].low, other["gap"].high) == (2.5, None, None)
    (mean, _) = compute_slice_scores(np.full(12, 7.5), build_value_slices("Label", labels))
    assert (mean["mean"].value, mean["mean"].low) == (7.5, None)


@pytest.mark.parametrize(
    "rate",
    [
        rate
        for rate in RATES
        if rate.name.startswith(("log-normal among normal, 5", "long tail among short, 100"))
        or rate.name.startswith("paired differences with a long tail, 10 ")
        or "100 rows of 500, half" in rate.name
    ],
    ids=lambda rate: rate.name,
)
def test_slices_of_equal_means_are_not_told_apart_for_their_shape(rate: Rate) -> None:
    share = observe(rate, 60).share
    assert share > 0.8 if rate.nominal == 0.8 else share <= 0.12


@pytest.mark.parametrize(
    ("own", "rest", "why"),
    [
        ([0.5], 40, "1 row (from 30 on)"),
        ([0.5, 0.6], 40, "2 rows (from 30 on)"),
        (list(np.linspace(0, 1, 40)), 4, "4 rows beside it (from 30 on)"),
        ([0.5] * 40, 40, "only 0 rows with another score than the most frequent one"),
        ([0.5] * 39 + [0.7], 40, "only 1 row with another score than the most frequent one"),
    ],
)
def test_a_slice_that_is_not_tested_says_why(own: list[float], rest: int, why: str) -> None:
    labels = ["own"] * len(own) + ["rest"] * rest
    scores = [*own, *np.random.default_rng(0).random(rest)]
    slices = {row["value"]: row for row in compute_slice_scores(scores, build_value_slices("Label", labels))}
    assert (slices["own"]["p"], slices["own"]["why"]) == (None, why)
    if "commonest" in why:
        beside = why.replace(" with", " beside it with")
        assert (slices["rest"]["p"], slices["rest"]["why"]) == (None, beside)
    assert compute_slice_scores([], {}) == []
    (whole,) = compute_slice_scores(scores, {("Label", "all"): np.ones(len(scores), bool)})
    assert (whole["p"], whole["why"]) == (None, "there is no other row")


def test_the_mean_that_is_shown_is_what_is_tested() -> None:
    """Ranks call the two different, means don't: so they aren't."""
    rng = np.random.default_rng(3)
    scores = np.concatenate([np.exp(rng.normal(-0.5, 1, 100)), rng.normal(1, 0.3, 100)])
    scores[:100] += 1 - scores[:100].mean()
    scores[100:] += 1 - scores[100:].mean()
    assert stats.mannwhitneyu(scores[:100], scores[100:]).pvalue < 0.001
    row, _ = compute_slice_scores(scores, build_value_slices("Label", ["a"] * 100 + ["b"] * 100))
    assert not row["different"]
    assert row["p"] > 0.9
