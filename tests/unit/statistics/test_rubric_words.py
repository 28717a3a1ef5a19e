"""Scores by criterion: scales of any length, whose opinion it is, and one figure over all where chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bench.ratings.rubrics import RATES
from bench.truths import Rate, observe
from engine.rating import results_text
from engine.rating.analysis.rates import CriterionScores, compute_criterion_means, count_fewest_raters
from engine.rating.analysis.round_ratings import OVERALL, RoundRatings, build_round_ratings
from store.core.rating_schemas import Round, RoundSystem
from tests.unit.store_samples import row_of

SCALES = {"tone": (1, 2), "safety": (1, 10)}


def ratings(
    items: int, raters: int, *, systems: int = 2, overall: bool = False, alike: bool = False
) -> RoundRatings:
    """Every rater scores every answer; the first model is better, unless all scores are alike."""
    rng = np.random.default_rng(1)
    rows = [
        (f"m{system}", item, f"r{rater}", criterion, 1.0 if alike else float(np.clip(round(
            1 + (0.75 - 0.4 * (system > 0) + rng.normal(0, 0.15)) * (best - 1)), 1, best)))
        for item in range(items) for rater in range(raters) for system in range(systems)
        for criterion, (_, best) in SCALES.items()
    ]  # fmt: skip
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], [], []]
    scores = CriterionScores.of(*columns, scales=SCALES)
    names = tuple(f"m{system}" for system in range(systems))
    both = scores.overall(OVERALL) if overall else None
    return RoundRatings(names, None, scores, None, None, 0, both)


@pytest.mark.parametrize(
    ("raters", "beginning"),
    [
        (1, "This holds for this one rater only: so few can't be generalized"),
        (3, "This holds for these 3 raters only: so few can't be generalized"),
        (5, "This holds for people like these 5 raters."),
    ],
)
def test_it_is_said_whose_opinion_it_is(raters: int, beginning: str) -> None:
    lines = results_text.describe_differences(ratings(30, raters))
    assert lines[-1].startswith(beginning)
    assert "tone: m0 scores higher than m1" in lines[0]
    assert "corrected for 2" in lines[-2]


def test_figures_of_few_among_many_raters_hold_for_these() -> None:
    rated = ratings(30, 6)
    assert rated.scores is not None
    kept = (rated.scores.system == 0) | (rated.scores.rater < 3)
    part = CriterionScores(
        rated.scores.systems, rated.scores.system[kept], rated.scores.item[kept], rated.scores.rater[kept],
        rated.scores.raters, rated.scores.items, criteria=rated.scores.criteria, scales=rated.scores.scales,
        criterion=rated.scores.criterion[kept], score=rated.scores.score[kept],
    )  # fmt: skip
    assert count_fewest_raters(part) == 3
    line = results_text.describe_population(replace(rated, scores=part))
    assert line.startswith("This holds for these 6 raters only: some figures use 3 raters, and so few")


@pytest.mark.parametrize(("items", "alike"), [(0, False), (1, False), (2, False), (30, True)])
def test_too_little_or_nothing_but_the_same_claims_no_opinion(items: int, alike: bool) -> None:
    rated = ratings(items, 2, overall=True, alike=alike)
    lines = [*results_text.describe_differences(rated), *results_text.describe_means(rated)]
    assert results_text.describe_population(rated) == ""
    assert "nan" not in " ".join(lines)
    assert not any("scores higher" in line for line in lines)
    if alike:
        assert any("are equal" in line for line in lines)


def test_of_many_models_the_told_differences_are_named_and_the_others_counted() -> None:
    lines = results_text.describe_differences(ratings(40, 2, systems=4))
    clear_lines = [line for line in lines if "scores higher" in line]
    assert len(clear_lines) == 6  # the first against each of three, by both criteria
    assert all("m0 scores higher" in line for line in clear_lines)
    assert "6 other differences between two models on a criterion are not clear." in lines
    assert any("corrected for 12" in line for line in lines)


def test_overall_counts_each_criterion_the_same_and_only_where_it_was_chosen() -> None:
    scores = CriterionScores.of(
        ["m"] * 4, [0, 0, 1, 1], ["r"] * 4, ["tone", "safety"] * 2, [2, 1, 1, 10], scales=SCALES
    )
    assert scores.overall("all").score.tolist() == [50, 50]
    lone = CriterionScores.of(["m"], [0], ["r"], ["tone"], [2], scales=SCALES)
    both = CriterionScores.of(
        ["m"] * 3, [0, 0, 1], ["r"] * 3, ["tone", "safety", "tone"], [2, 1, 2], scales=SCALES
    )
    assert lone.overall("all").score.tolist() == [100]
    assert both.overall("all").score.tolist() == [50]  # one without all criteria has none
    anchors = {"tone": ["a", "b"], "safety": [*"abcdefghij"]}
    config = {"criteria": [{"name": name, "anchors": words} for name, words in anchors.items()]}
    round = row_of(Round, protocol="rubric", systems=[row_of(RoundSystem, name="m")], config=config)
    rated = pa.Table.from_pylist([
        {"item_id": 0, "person_id": "r", "person_name": "r", "systems": [0], "purpose": "first",
         "scores": '{"tone": 2, "safety": 10}', "seconds": None, "weight": 1.0,
         "skipped": False, "telling": False}
    ])  # fmt: skip
    assert build_round_ratings(round, rated).overall is None
    config["overall"] = True  # type: ignore[assignment]
    overall = build_round_ratings(round, rated).overall
    assert overall is not None
    assert compute_criterion_means(overall)["m", OVERALL].value == 100


@pytest.mark.parametrize("score", [0, 3, float("nan")])
def test_a_score_beyond_its_scale_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match=r"not 1 to 2\."):
        CriterionScores.of(["m"], [0], ["r"], ["tone"], [score], scales=SCALES)


@pytest.mark.parametrize("rate", RATES[1::9], ids=lambda rate: rate.name)
def test_intervals_cover(rate: Rate) -> None:
    assert observe(rate, 80).share >= 0.86
