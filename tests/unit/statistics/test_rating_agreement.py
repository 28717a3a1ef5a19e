"""Agreement of raters, what each is like, and what measures are worth beside them."""

from __future__ import annotations

import math

import krippendorff
import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import cohen_kappa_score

from bench.made.voted import toss
from bench.ratings.agreement import RATES
from bench.ratings.people import RATES as PEOPLE
from bench.ratings.shares import RATES as SHARES
from bench.truths import Rate, observe
from engine.evaluation.statistics.clustered import RatingClusters, index_values
from engine.rating.analysis.agreement import cohen_kappa, compute_kappas, measure_human_agreement
from engine.rating.analysis.comparisons import Comparisons, find_disputed_items
from engine.rating.analysis.krippendorff_alpha import (
    Level,
    compute_alpha,
    compute_outcome_alpha,
    compute_pass_alpha,
    compute_rank_alpha,
    compute_score_alpha,
)
from engine.rating.analysis.rater_reliability import (
    estimate_reliabilities,
    fit_dawid_skene,
    profile_raters,
)
from engine.rating.analysis.rates import (
    CriterionScores,
    Passes,
    Ranks,
    compute_criterion_differences,
    compute_criterion_means,
    compute_pass_rates,
    compute_win_rates,
)
from engine.rating.analysis.round_ratings import build_round_ratings
from engine.rating.raters_text import list_doubts
from store.core.rating_schemas import Round, RoundSystem
from tests.unit.store_samples import row_of


def table(seed: int = 0) -> np.ndarray:
    """Grades 1 to 5 by four raters of 60 items, a third of them missing."""
    rng = np.random.default_rng(seed)
    grades = rng.integers(1, 6, (4, 60)).astype(float)
    grades[1:] = np.where(rng.random((3, 60)) < 0.6, grades[0], grades[1:])
    grades[rng.random(grades.shape) < 0.33] = np.nan
    return grades


def rated(rows: list[tuple[str, str, str, int, str]], **more: object) -> Comparisons:
    """(left, right, outcome, item, rater) each."""
    return Comparisons.of(*map(list, zip(*rows, strict=True)), **more)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("seed", [0, 1])
def test_alpha_is_krippendorffs(level: Level, seed: int) -> None:
    grades = table(seed)
    rater, item = np.nonzero(np.isfinite(grades))
    ours = compute_alpha(grades[rater, item], item, level=level)
    theirs = krippendorff.alpha(reliability_data=grades, level_of_measurement=level)
    assert ours.interval.value == pytest.approx(theirs, abs=1e-12)
    assert ours.interval.low < theirs < ours.interval.high
    assert ours.interval.n == int((np.isfinite(grades).sum(axis=0) >= 2).sum())


def test_alpha_of_the_dictionary_example() -> None:
    """Krippendorff's (2011) "Computing Krippendorff's Alpha-Reliability", with missing values: 0.743
    nominal."""
    rows = [
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    ]
    values, items = [], []
    for row in rows:
        for item, value in enumerate(row.split()):
            if value != ".":
                values.append(int(value))
                items.append(item)
    assert compute_alpha(values, items).interval.value == pytest.approx(0.743, abs=5e-4)
    assert compute_alpha(values, items, level="ordinal").interval.value == pytest.approx(0.815, abs=5e-4)
    assert compute_alpha(values, items, level="interval").interval.value == pytest.approx(0.849, abs=5e-4)


@pytest.mark.parametrize(
    ("values", "items", "why"),
    [
        ([], [], "there are no ratings"),
        (["a", "b"], [0, 1], "no item has two ratings"),
        (["a"] * 30, list(range(15)) * 2, "all ratings are the same"),
        (["a", "b"] * 3, [0, 0, 1, 1, 2, 2], "3 items with two ratings or more are too few"),
        (
            ["a", "b", "b", *["a"] * 57],
            list(range(30)) * 2,
            "only 2 items have another rating than the most frequent one",
        ),
    ],
)
def test_alpha_says_why_it_is_not_known(values: list, items: list, why: str) -> None:
    at = compute_alpha(values, items).interval
    assert at.low is None
    assert at.why.startswith(why)


@pytest.mark.parametrize(
    "rate",
    [rate for rate in [*RATES, *PEOPLE, *SHARES] if rate.name in (
        "coins for 4 models, every pair of each prompt, 20 prompts: alpha holds 0",
        "kappa covers where a third one is asked, fair agreement, 100 items",
        "alpha covers where telling items are rated, fair agreement, 300 items",
        "score cover, telling prompts shown, 300 items", "wins cover, telling prompts shown, 300 items",
        "alpha covers, fair agreement, 50 items, 3 raters", "kappa covers, fair agreement, 50 items",
        "any of 5 honest raters is suspected", "a rater who always presses the left side is seen",
        "a rater who guesses is called least reliable")],
    ids=lambda rate: rate.name,
)  # fmt: skip
def test_rates_hold(rate: Rate) -> None:
    share = observe(rate, 30).share
    assert share < 0.16 if rate.nominal == 0.05 else share > 0.82


def test_sides_are_taken_away_before_agreement() -> None:
    """A by one rater and B by another are the same answer."""
    rows = []
    for item in range(30):
        winner = "x" if item % 2 else "y"
        rows.append(("x", "y", "left" if winner == "x" else "right", item, "first"))
        rows.append(("y", "x", "left" if winner == "y" else "right", item, "second"))
    comparisons = rated(rows)
    assert compute_outcome_alpha(comparisons).interval.value == 1
    (both,) = compute_kappas(comparisons).of_pairs
    assert (both.interval.value, both.share.value, both.share.n) == (1, 1, 30)
    assert both.interval.low < 1
    assert find_disputed_items(comparisons) == []


def test_kappa_is_cohens() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 3, 80)
    second = np.where(rng.random(80) < 0.5, first, rng.integers(0, 3, 80))
    at, share = cohen_kappa(first, second)
    assert at.value == pytest.approx(cohen_kappa_score(first, second))
    assert share.value == pytest.approx((first == second).mean())
    assert at.low < at.value < at.high
    assert math.isnan(cohen_kappa([1] * 20, [1] * 20)[0].value)
    assert "always gave the same answer" in cohen_kappa([1] * 20, [1] * 20)[0].why
    assert "one of the two always" in cohen_kappa([1, 2] * 10, [2] * 20)[0].why
    assert "too few" in cohen_kappa([1, 2], [2, 1])[0].why
    assert "no items in common" in cohen_kappa([], [])[0].why


def test_the_items_people_part_on_come_first() -> None:
    votes = {
        0: ("left", "right", "tie"),
        1: ("left",) * 3,
        2: ("left", "left", "right"),
        3: ("left", "right"),
    }
    rows = [("a", "b", vote, item, f"r{k}") for item, each in votes.items() for k, vote in enumerate(each)]
    ranked = find_disputed_items(rated(rows))
    assert [row.item for row in ranked] == ["0", "3", "2"]
    assert ranked[0].entropy == pytest.approx(np.log2(3))
    assert ranked[1].votes == {"a": 1, "b": 1}


def test_a_rater_is_described() -> None:
    rng = np.random.default_rng(0)
    rows, seconds, repeat = [], [], []
    for item in range(40):
        for rater in ("steady", "other", "presser"):
            outcome = "left" if rater == "presser" or item % 4 else "right"
            swapped = rater != "presser" and rng.random() < 0.5
            sides = ("b", "a") if swapped else ("a", "b")
            if swapped:
                outcome = "right" if outcome == "left" else "left"
            rows.append((*sides, outcome, item, rater))
            seconds.append(0.9 if rater == "presser" else 12.0)
            repeat.append(False)
            if item % 5 == 0:
                again = "left" if rater == "presser" else ("right" if outcome == "left" else "left")
                rows.append((sides[1], sides[0], again, item, rater))
                seconds.append(1.0)
                repeat.append(True)
    comparisons = rated(rows, seconds=seconds, repeat=repeat)
    steady, _, presser = profile_raters(comparisons)
    assert (steady.n, steady.consistency.value, steady.suspect, steady.always) == (40, 1, False, "")
    assert presser.consistency.value == 0
    assert (presser.always, presser.leans) == ("left", True)
    assert any("fast" in reason or "second" in reason for reason in list_doubts(presser))
    assert presser.seconds == pytest.approx(0.9)
    assert len(list_doubts(presser)) == 3
    assert steady.agreement.value > presser.agreement.value


def test_a_side_is_held_against_nobody_where_it_is_the_model_that_stood_there() -> None:
    """As in files of votes whose models come in the order of their names."""
    outcomes = ["left"] * 30 + ["right"] * 3
    fixed = Comparisons.of(["x"] * 33, ["y"] * 33, outcomes, list(range(33)), ["ann"] * 33)
    (ann,) = profile_raters(fixed)
    assert (ann.leans, list_doubts(ann)) == (False, [])
    sides = [("x", "y") if place % 2 else ("y", "x") for place in range(33)]
    left, right = zip(*sides, strict=True)
    (drawn,) = profile_raters(Comparisons.of(left, right, outcomes, list(range(33)), ["ann"] * 33))
    assert drawn.leans


def test_dawid_and_skene_is_crowdkits() -> None:
    """Posterior of the first items as crowd-kit 1.4.2 gives it (2,000 steps to 1e-12), without smoothing."""
    rng = np.random.default_rng(3)
    truth, right = rng.integers(0, 3, 40), (0.9, 0.8, 0.6, 0.4)
    rows = [
        (unit, rater, int(truth[unit]) if rng.random() < right[rater] else int(rng.integers(0, 3)))
        for unit in range(40)
        for rater in range(4)
        if rng.random() < 0.8
    ]
    unit, rater, label = (np.array(column) for column in zip(*rows, strict=True))
    confusion, posterior = fit_dawid_skene(label, unit, rater, 3, smoothing=0.0, right=0.0)
    expected = [[0.01428, 0, 0.98572], [1, 0, 0], [1, 0, 0], [0.36716, 0.63284, 0]]
    assert posterior[:4] == pytest.approx(np.array(expected), abs=2e-5)
    assert confusion[0].diagonal() == pytest.approx([0.8991, 0.7808, 1.0], abs=1e-4)


def test_of_two_raters_nobody_can_say_who_is_right() -> None:
    rows = [
        ("a", "b", "left" if (item + k) % 3 else "right", item, f"r{k}") for item in range(90) for k in (0, 1)
    ]
    assert "it takes three" in estimate_reliabilities(rated(rows)).why
    assert "too few" in estimate_reliabilities(rated(rows[:60])).why


def test_who_guesses_among_people_who_know_is_told_and_nobody_else() -> None:
    rng = np.random.default_rng(4)
    rows = []
    for item in range(120):
        right = rng.choice(["left", "right"])
        for rater in range(5):
            knows = rng.random() < (0.1 if rater == 3 else 0.9)
            rows.append(
                ("a", "b", right if knows else str(rng.choice(["left", "right", "tie"])), item, f"r{rater}")
            )
    standing = {rater.rater: rater.standing for rater in estimate_reliabilities(rated(rows)).raters}
    assert standing["r3"] == "less"
    assert "less" not in {of for rater, of in standing.items() if rater != "r3"}


def test_raters_who_answer_alike_are_not_told_apart() -> None:
    same = [("a", "b", "left", item, f"r{rater}") for item in range(90) for rater in range(3)]
    assert {rater.standing for rater in estimate_reliabilities(rated(same)).raters} == {"unclear"}


def test_who_agree_by_chance_alone_have_no_truth_in_common() -> None:
    rng = np.random.default_rng(5)
    rows = [
        ("a", "b", str(rng.choice(["left", "right", "tie"], p=[0.6, 0.2, 0.2])), item, f"r{rater}")
        for item in range(90)
        for rater in range(4)
    ]
    assert "agree too little" in estimate_reliabilities(rated(rows)).why


def test_a_measure_stands_beside_people() -> None:
    rng = np.random.default_rng(0)
    better = rng.random(200) < 0.5
    rows = [
        ("a", "b", "left" if good == (rng.random() < 0.8) else "right", item, f"r{k}")
        for item, good in enumerate(better)
        for k in range(2)
    ]
    comparisons = rated(rows)
    right = measure_human_agreement(
        "oracle", comparisons, lambda item, first, second: 1.0 if better[int(item)] else -1.0
    )
    assert right.share.low < 0.8 < right.share.high
    assert right.between_people.low < 0.68 < right.between_people.high
    blind = measure_human_agreement(
        "blind", comparisons, lambda item, first, second: 1.0 if int(item) < 80 else None
    )
    assert (blind.n, blind.missing) == (160, 240)
    assert blind.kappa.value == pytest.approx(0, abs=1e-9)


def test_scores_passes_and_ranks() -> None:
    rng = np.random.default_rng(0)
    rows = [
        (
            system,
            item,
            f"r{rater}",
            criterion,
            float(np.clip(round(3 + (system == "a") + rng.normal(0, 0.7)), 1, 5)),
        )
        for item in range(30)
        for rater in range(2)
        for system in "ab"
        for criterion in ("tone", "safety")
    ]
    scores = CriterionScores.of(*map(list, zip(*rows, strict=True)))
    means = compute_criterion_means(scores)
    assert means["a", "tone"].low < 4 < means["a", "tone"].high
    apart = compute_criterion_differences(scores, "a", "b")
    assert apart["tone"].above
    assert apart["tone"].n == 60
    assert compute_score_alpha(scores, "tone").level == "ordinal"
    with pytest.raises(ValueError, match="score: entry 0 is 6"):
        CriterionScores.of(["a"], [0], ["r"], ["tone"], [6.0])
    passes = Passes.of(["a"] * 20, list(range(10)) * 2, ["r"] * 10 + ["s"] * 10, [True] * 20)
    assert compute_pass_rates(passes)["a"].value == 1
    assert 0.6 < compute_pass_rates(passes)["a"].low < 0.8
    assert "all ratings are the same" in compute_pass_alpha(passes).interval.why
    ranks = Ranks.of(
        ["a", "b"] * 40, np.repeat(range(20), 4).tolist(), ["r", "r", "s", "s"] * 20, [1, 2] * 40
    )
    assert compute_rank_alpha(ranks).interval.value == 1


@pytest.mark.parametrize("models", [2, 3, 4, 8])
def test_raters_who_toss_coins_agree_by_chance_however_many_models_there_are(models: int) -> None:
    rng = np.random.default_rng(models)
    values = [
        compute_outcome_alpha(toss(rng, "every pair of each prompt", 25, models, 2)).interval
        for _ in range(8)
    ]
    assert abs(np.mean([at.value for at in values])) < 0.1
    assert (
        "agree too little"
        in estimate_reliabilities(toss(rng, "every pair of each prompt", 80, models, 3)).why
    )


def test_alpha_of_three_models_that_all_rate_alike_is_one_and_of_single_pairs_none() -> None:
    rows = [
        (*pair, "left" if (item + place) % 2 else "right", item, rater)
        for item in range(30)
        for place, pair in enumerate((("a", "b"), ("b", "c"), ("c", "a")))
        for rater in ("r", "s")
    ]
    assert compute_outcome_alpha(rated(rows)).interval.value == 1
    apart = [rows[0], rows[1], rows[8], rows[9]]
    assert "with another one of the same two models" in compute_outcome_alpha(rated(apart)).interval.why
    same = [(*row[:2], "tie", *row[3:]) for row in rows]
    at = compute_outcome_alpha(rated(same)).interval
    assert math.isnan(at.value)
    assert "all ratings are the same" in at.why


def test_of_under_twenty_items_there_is_no_kappa_and_no_interval_of_alpha() -> None:
    first, second = [1, 2] * 8 + [1, 1, 2], [1, 2] * 8 + [2, 1, 1]
    at, share = cohen_kappa(first, second)
    assert math.isnan(at.value)
    assert at.why == "19 common items are too few (from 20 on)"
    assert share.low is not None
    assert compute_alpha([*first, *second], list(range(19)) * 2).interval.low is None
    assert cohen_kappa([*first, 1], [*second, 1])[0].low is not None
    thrice, nobody = np.repeat(np.arange(19), 3), np.zeros(57, np.int64)  # what counts are items, not votes
    at, _ = cohen_kappa(np.repeat(first, 3), np.repeat(second, 3), RatingClusters(thrice, nobody))
    assert at.why == "19 common items are too few (from 20 on)"


def test_what_settles_a_dispute_counts_in_no_figure() -> None:
    votes = [
        ("a", "b", "left" if item % 3 or rater == "s" else "right", item, rater)
        for item in range(40)
        for rater in "rs"
    ]
    third = [("a", "b", "left", item, "t") for item in range(0, 40, 3)]
    settled = rated(votes + third, adjudication=[False] * len(votes) + [True] * len(third))
    plain = rated(votes)
    assert compute_win_rates(settled, "a").wins == compute_win_rates(plain, "a").wins
    assert compute_outcome_alpha(settled).interval == compute_outcome_alpha(plain).interval
    assert [both.interval for both in compute_kappas(settled).of_pairs] == [
        both.interval for both in compute_kappas(plain).of_pairs
    ]
    assert find_disputed_items(settled)[0].votes == {"a": 2, "b": 1}
    assert profile_raters(settled)[2].n == len(third)


def test_each_item_counts_once_or_as_its_chance_says() -> None:
    many = [("a", "b", "right", 0, f"r{k}") for k in range(3)] + [("a", "b", "left", k, "r") for k in (1, 2)]
    assert compute_win_rates(rated(many), "a").wins.value == pytest.approx(2 / 3)
    weighted = rated(many, weights=[1.0] * 3 + [3.0] * 2)
    assert compute_win_rates(weighted, "a").wins.value == pytest.approx(6 / 7)
    passes = Passes.of(["s"] * 6, list(range(6)), ["r"] * 6, [True] * 3 + [False] * 3, [3.0] * 3 + [1.0] * 3)
    assert compute_pass_rates(passes)["s"].value == pytest.approx(0.75)
    scores = CriterionScores.of(
        ["s"] * 6, list(range(6)), ["r"] * 6, ["tone"] * 6, [5.0] * 3 + [1.0] * 3, [3.0] * 3 + [1.0] * 3
    )
    assert compute_criterion_means(scores)["s", "tone"].value == pytest.approx(4)
    heavy = CriterionScores.of(
        ["s"] * 6, list(range(6)), ["r"] * 6, ["tone"] * 6, [5.0] * 3 + [1.0] * 3, [90.0] + [1.0] * 5
    )
    assert "items of unequal weight are equivalent to 1.1" in compute_criterion_means(heavy)["s", "tone"].why


@pytest.mark.parametrize("protocol", ["pairwise", "pass_fail", "rubric", "rank"])
def test_a_round_takes_weights_of_its_items_and_first_ratings(protocol: str) -> None:
    answers = {
        "pairwise": {"choice": "A", "preference": None, "left_length": 1, "right_length": 1,
                     "left_marks": 0.0,
                     "right_marks": 0.0},
        "pass_fail": {"passed": True}, "rubric": {"scores": '{"tone": 4}'}, "rank": {"ranks": [1, 2]},
    }  # fmt: skip
    systems = [0, 1] if protocol in ("pairwise", "rank") else [0]
    rows = [
        {"item_id": 7, "person_id": purpose, "person_name": purpose, "systems": systems, "purpose": purpose,
         "weight": 2.5, "seconds": None, "skipped": False, "telling": False, **answers[protocol]}
        for purpose in ("first", "repeat", "adjudication")
    ]  # fmt: skip
    models = [row_of(RoundSystem, name=name) for name in "mn"]
    round = row_of(Round, protocol=protocol, systems=models, config={})
    ratings = build_round_ratings(round, pa.Table.from_pylist(rows))
    graded = ratings.scores or ratings.passes or ratings.ranks
    if graded is not None:
        assert graded.raters == ("first",)
        assert set(graded.weights.tolist()) == {2.5}
    if (pairs := ratings.comparisons) is not None:
        assert set(pairs.take(pairs.counted).rater.tolist()) == {0}
        assert set(pairs.weights.tolist()) == {2.5}


@pytest.mark.parametrize("numbers", [[], [7], [3, 1, 3, 2], [-5, 40, -5], [0, 10**9, 5], [2, 2, 2]], ids=str)
def test_places_are_those_of_sorted_numbers(numbers: list[int]) -> None:
    """By a table where they lie close together, else by sorting."""
    places = index_values(np.array(numbers, np.int64))
    assert places.tolist() == [sorted(set(numbers)).index(number) for number in numbers]
