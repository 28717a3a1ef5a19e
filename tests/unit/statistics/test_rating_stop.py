"""When enough is known, what a judge is worth once people correct it, and what to rate next."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from bench.ratings.corrected import RATES as CORRECTED
from bench.ratings.sequential import RATES as SEQUENTIAL
from bench.truths import Rate, observe
from engine.rating.analysis.comparisons import Comparisons
from engine.rating.analysis.judge_correction import correct_judge
from engine.rating.analysis.model_comparison import compute_always_valid_interval, peek, peek_all
from engine.rating.analysis.prompt_selection import select_prompts
from engine.rating.analysis.strengths import estimate_strengths


def rated(rows: list[tuple[str, str, str, int, str]], **more: object) -> Comparisons:
    """(left, right, outcome, item, rater) each."""
    return Comparisons.of(*map(list, zip(*rows, strict=True)), **more)


@pytest.mark.parametrize("rate", [SEQUENTIAL[0], SEQUENTIAL[7]], ids=lambda rate: rate.name)
def test_peeking_does_no_harm(rate: Rate) -> None:
    share = observe(rate, 15).share
    assert share <= 0.14 if rate.nominal == 0.05 else share > 0.6


def test_an_always_valid_interval_shrinks_and_excludes_what_it_once_did() -> None:
    scores = np.random.default_rng(0).choice([1.0, 0.0, -1.0], 2_000, p=[0.5, 0.3, 0.2])
    ends = [compute_always_valid_interval(scores[:n]) for n in (1, 10, 100, 1_000, 2_000)]
    assert all(first.low <= second.low and second.high <= first.high for first, second in pairwise(ends))
    assert ends[0].low == -1
    assert ends[0].high == 1
    assert 0.1 < ends[-1].low < 0.3 < ends[-1].high < 0.4
    assert compute_always_valid_interval([]).why == "no item has its ratings yet"
    with pytest.raises(ValueError, match="scores"):
        compute_always_valid_interval([2.0])


def test_a_peek_takes_items_once_they_have_their_ratings() -> None:
    rows = [("a", "b", "left", item, f"r{(item + k) % 5}") for item in range(30) for k in range(2)]
    rows.append(("b", "a", "left", 99, "r0"))
    at = peek(rated(rows), "a", "b", overlap=2)
    assert (at.state, at.items, at.waiting) == ("first", 30, 1)
    assert peek(rated(rows), "b", "a", overlap=2).state == "second"
    bad = rated([("a", "b", "both_bad", item, "r") for item in range(10)])
    assert (peek(bad, "a", "b").state, peek(bad, "a", "b").items) == ("none", 0)


@pytest.mark.parametrize(
    "rate",
    [rate for rate in SEQUENTIAL if "100 prompts: ends wrongly" in rate.name or "contradicts" in rate.name],
    ids=lambda rate: rate.name,
)
def test_raters_one_after_another_or_a_drift_end_no_round(rate: Rate) -> None:
    assert observe(rate, 6).share <= 0.17


def test_raters_who_part_end_no_round_though_items_would() -> None:
    """Four of six always prefer a, two always b: of these items a, of other raters nobody knows."""
    rows = [
        ("a", "b", "left" if item % 6 < 4 else "right", item, f"r{item % 6}") for item in range(600)
    ]  # fmt: skip
    at = peek(rated(rows), "a", "b")
    assert compute_always_valid_interval(np.where(np.arange(600) % 6 < 4, 1.0, -1.0)).above
    assert (at.state, at.interval.low < 0 < at.interval.high) == ("go_on", True)


def test_an_end_needs_the_same_verdict_of_the_round_and_a_value_within() -> None:
    rows = [("a", "b", "left" if item % 7 else "right", item, f"r{item % 6}") for item in range(120)]
    assert peek(rated(rows), "a", "b", verdict="better").state == "first"
    for verdict in ("unclear", "worse", "none"):
        at = peek(rated(rows), "a", "b", verdict=verdict)
        assert (at.state, at.interval.low) == ("go_on", None)
        assert "show no clear difference yet" in at.interval.why
    at = peek(rated(rows), "a", "b", planned=241)
    assert (at.state, at.interval.why[:31]) == ("go_on", "half of the 241 items are to be")
    assert peek(rated(rows), "a", "b", planned=240).state == "first"
    turned = compute_always_valid_interval([1.0] * 60 + [-1.0] * 120)
    assert (turned.low, turned.why) == (None, "the preference has changed in the course of the round")
    rising = [("a", "b", "left" if item > 40 else "right", item, f"r{item % 6}") for item in range(100)]
    assert peek(rated(rising), "a", "b").interval.why == turned.why


def test_many_pairs_share_what_may_go_wrong() -> None:
    rows = [("a", "b", "left" if item % 4 else "right", item, f"r{item % 5}") for item in range(60)]
    rows += [("b", "c", "tie", item, f"r{item % 5}") for item in range(60)]
    both = peek_all(rated(rows), estimate_strengths(rated(rows)))
    assert [(at.first, at.second, at.pairs) for at in both] == [("a", "b", 3), ("b", "c", 3)]
    alone = peek(rated(rows), "a", "b")
    assert both[0].interval.low < alone.interval.low


@pytest.mark.parametrize(
    "rate", [rate for rate in CORRECTED if "85%" in rate.name or "10% at random" in rate.name],
    ids=lambda rate: rate.name,
)  # fmt: skip
def test_a_corrected_judge_covers(rate: Rate) -> None:
    assert observe(rate, 100).share > 0.87


def test_correction_is_near_that_of_ppi_python() -> None:
    """0.2277 (0.0767 to 0.3786), power-tuned, by ppi-python 0.2.3 of these numbers; ours takes Student's
    t."""
    rng = np.random.default_rng(7)
    truth = rng.normal(0.4, 1, 400)
    judge = np.round(truth + rng.normal(0.3, 0.5, 400), 2)
    people = np.round(truth + rng.normal(0, 0.3, 400), 2)
    people[60:] = np.nan
    at = correct_judge(judge, people)
    assert at.corrected.value == pytest.approx(0.2277, abs=0.005)
    assert at.corrected.low == pytest.approx(0.0767, abs=0.01)
    assert at.corrected.high == pytest.approx(0.3786, abs=0.01)
    assert at.gain > 2
    assert (at.rated, at.judged) == (60, 400)


@pytest.mark.parametrize(
    ("others", "lead"), [(0, "no item has"), (1, "only 1 item has"), (7, "only 7 items have"), (8, "")]
)
def test_a_judge_is_not_corrected_where_people_say_nearly_the_same_of_all(others: int, lead: str) -> None:
    people = np.full(400, np.nan)
    people[:60] = np.arange(60) >= others
    at = correct_judge(np.random.default_rng(0).integers(0, 2, 400).astype(float), people)
    assert at.corrected.value == pytest.approx(1 - others / 60, abs=0.02)
    assert (at.corrected.low is None) == bool(lead) == (at.people.low is None)
    assert at.corrected.why.startswith(lead)


def test_a_judge_that_knows_nothing_costs_little_and_one_never_wrong_is_not_believed() -> None:
    rng = np.random.default_rng(0)
    people = rng.integers(0, 2, 200).astype(float)
    people[50:] = np.nan
    blind = correct_judge(rng.integers(0, 2, 200).astype(float), people)
    assert 0.8 < blind.gain < 1.2
    same = correct_judge(np.where(np.isnan(people), 1.0, people), people)
    assert same.corrected == same.people
    assert same.weight == 0
    assert (
        correct_judge(np.ones(5), np.full(5, np.nan)).corrected.why
        == "no item was rated by people (from 20 on)"
    )
    with pytest.raises(ValueError, match="judge: item 1 has no finite number"):
        correct_judge([1.0, np.nan], [1.0, 1.0])
    with pytest.raises(ValueError, match="not one value an item each"):
        correct_judge([1.0], [1.0, 1.0])


def test_prompts_on_which_measures_part_are_likelier_and_their_chances_are_right() -> None:
    parted = np.linspace(0, 1, 50)
    drawn = np.zeros(50)
    for seed in range(600):
        drawn[select_prompts({"judge": parted}, 10, seed=seed).places] += 1
    choice = select_prompts({"judge": parted}, 10)
    assert len(set(choice.places.tolist())) == 10
    assert (np.diff(choice.score[choice.places]) <= 0).all()
    every = select_prompts({"judge": parted}, 50)
    assert every.chance == pytest.approx(np.ones(50))
    assert every.effective == pytest.approx(50)
    assert drawn[-10:].mean() > 3 * drawn[:10].mean()
    chance = np.full(50, np.nan)
    for seed in range(60):
        one_choice = select_prompts({"judge": parted}, 10, seed=seed)
        chance[one_choice.places] = one_choice.chance
    assert np.nansum(chance) == pytest.approx(10, abs=0.5)
    assert drawn[-1] / 600 == pytest.approx(chance[-1], abs=0.07)


def test_what_was_not_measured_counts_as_the_middle() -> None:
    choice = select_prompts({"a": [1.0, 2.0, np.nan, 4.0], "b": [np.nan] * 4}, 2)
    assert choice.score == pytest.approx([(1 / 6 + 0.5) / 2, 0.5, 0.5, (5 / 6 + 0.5) / 2])
    for wrong, message in (({}, "measures"), ({"a": [1.0], "b": [1.0, 2.0]}, "measures")):
        with pytest.raises(ValueError, match=message):
            select_prompts(wrong, 1)
    with pytest.raises(ValueError, match="count: 5 of 4"):
        select_prompts({"a": [1.0] * 4}, 5)
    with pytest.raises(ValueError, match="random_share"):
        select_prompts({"a": [1.0] * 4}, 1, random_share=0)
