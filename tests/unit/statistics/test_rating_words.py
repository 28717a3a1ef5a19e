"""What is said of ratings: right where there are many, few, none, and where all say the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine.evaluation.statistics.intervals import Interval
from engine.rating import raters_text, results_text
from engine.rating.analysis.agreement import compute_kappas, measure_human_agreement
from engine.rating.analysis.comparisons import Comparisons, find_disputed_items
from engine.rating.analysis.judge_correction import correct_judge
from engine.rating.analysis.krippendorff_alpha import compute_outcome_alpha
from engine.rating.analysis.model_comparison import RatingsNeeded, estimate_ratings_needed, peek, peek_all
from engine.rating.analysis.prompt_selection import select_prompts
from engine.rating.analysis.rater_reliability import estimate_reliabilities, profile_raters
from engine.rating.analysis.rates import (
    CriterionScores,
    Passes,
    compute_both_bad_rate,
    compute_criterion_differences,
    compute_pass_rates,
    compute_win_rates,
    measure_position_effect,
)
from engine.rating.analysis.strengths import Coefficient, estimate_strengths

Row = tuple[str, str, str, int, str]
CYCLE = ("left", "right", "tie", "left", "both_bad", "left")


def rated(rows: list[Row], **more: Any) -> Comparisons:
    if not rows:
        return Comparisons.of([], [], [], [], [], systems=["a", "b"])
    return Comparisons.of(
        *map(list, zip(*rows, strict=True)),
        systems=["a", "b", "c"][: 2 + any("c" in row[:2] for row in rows)],
        **more,
    )


def rows(n: int, outcome: Callable[[int], str], raters: int = 1) -> list[Row]:
    return [("a", "b", outcome(item + k), item, f"r{k}") for item in range(n) for k in range(raters)]


ROUNDS: dict[str, list[Row]] = {
    "nothing": [],
    "one rating": rows(1, lambda k: "left"),
    "two ratings": rows(2, lambda k: "left" if k else "right"),
    "one item": rows(1, lambda k: CYCLE[k % 6], 12),
    "all ties": rows(40, lambda k: "tie", 2),
    "all bad": rows(40, lambda k: "both_bad", 2),
    "always the left one": rows(40, lambda k: "left", 2),
    "one rater": rows(60, lambda k: CYCLE[k % 6]),
    "three raters": rows(60, lambda k: CYCLE[k % 6], 3),
    "six raters": rows(40, lambda k: CYCLE[(k * k) % 6], 6),
    "three systems": [
        (*pair, CYCLE[(item + k) % 6], item, f"r{k % 2}")
        for item in range(40)
        for k, pair in enumerate((("a", "b"), ("b", "c"), ("c", "a")))
        for _ in range(2)
    ],
}


def every_sentence(comparisons: Comparisons) -> list[str]:
    """All that is said of a round."""
    fitted = estimate_strengths(comparisons, resamples=100)
    first, second = comparisons.systems[:2]
    pair, equal = (
        fitted.difference(first, second),
        estimate_strengths(comparisons, position=True, resamples=100),
    )
    lines = results_text.describe_strengths(fitted)
    lines.append(results_text.describe_adjusted_difference(pair, equal.difference(first, second), "the side"))
    lines += [
        results_text.describe_length_effect(equal.coefficients[0]),
        results_text.describe_formatting_effect(equal.coefficients[0]),
    ]
    lines.append(results_text.describe_win_rates(first, compute_win_rates(comparisons, first)))
    lines.append(results_text.describe_both_bad_rate(compute_both_bad_rate(comparisons)))
    lines.append(results_text.describe_position_effect(measure_position_effect(comparisons)))
    lines.append(
        results_text.describe_ratings_needed(first, second, estimate_ratings_needed(fitted, first, second))
    )
    lines += [
        results_text.describe_peek(at)
        for at in [peek(comparisons, first, second, overlap=2), *peek_all(comparisons, fitted)]
    ]
    lines.append(raters_text.describe_alpha(compute_outcome_alpha(comparisons)))
    lines += [raters_text.describe_kappa(both) for both in compute_kappas(comparisons).of_pairs]
    for profile in profile_raters(comparisons):
        lines += raters_text.describe_rater(profile)
    lines += raters_text.describe_reliabilities(estimate_reliabilities(comparisons))
    lines += [raters_text.describe_disputed_item(row) for row in find_disputed_items(comparisons)[:3]]
    for prefers in (lambda item, a, b: 1.0, lambda item, a, b: None):
        lines.append(
            raters_text.describe_human_agreement(measure_human_agreement("the judge", comparisons, prefers))
        )
    return lines


@pytest.mark.parametrize("name", ROUNDS)
@pytest.mark.filterwarnings("error")
def test_every_round_is_told_in_whole_sentences(name: str) -> None:
    for line in every_sentence(rated(ROUNDS[name])):
        assert line.endswith("."), line
        assert ".." not in line, line
        assert ": ." not in line, line
        assert not re.search(r"\bnan\b|None|inf\b|not a number|\(\)|  ", line), line
        assert not re.search(r"\d\.\d{5,}", line), line
        assert not re.search(r"\b1 (ratings|items|raters|votes)\b", line), line


def said_of(name: str) -> str:
    return " ".join(every_sentence(rated(ROUNDS[name])))


def test_what_is_told_of_some_rounds() -> None:
    assert "Which is better can't be determined: there are no comparisons." in said_of("nothing")
    assert "there are no comparisons, as both were bad in all 80" in said_of("all bad")
    assert "every comparison is a tie" in said_of("all ties")
    left = said_of("always the left one")
    assert re.search(r"a is better than b: a would win \d\d% or more of decided ratings \(80 ratings\)", left)
    assert "no upper bound" in left
    assert "nearly every rating is" not in left  # where a always stood left, it is the model that was chosen
    assert "all ratings are the same" in left
    alone = said_of("one rater")
    assert "This holds for this one rater" in alone
    assert "no item has two ratings" in alone
    assert "10 ratings that both are bad were left out" in alone
    assert "This holds for" not in said_of("six raters")


def test_a_headline_of_three_names_what_is_beaten_and_what_is_open() -> None:
    even = [("a", "b", "left"), ("b", "a", "left"), ("a", "b", "tie")]
    results = even + [(better, "c", outcome) for better in "ab" for outcome in ("left", "left", "right")]
    many = [(*result, item, "r") for item in range(60) for result in results]
    lines = results_text.describe_strengths(estimate_strengths(rated(many)))
    assert re.match(
        r"a ranks first: it is better than c; it shows no clear difference from b yet\.", lines[0]
    )
    assert lines[1].startswith("a is better than c: it would win ")


@pytest.mark.parametrize(
    ("low", "high", "lead"),
    [
        (-11, -1, "Less formatting is preferred: "),
        (-1, 1, "Whether more formatting is preferred can't be determined: "),
        (1, 11, "More formatting is preferred: "),
    ],
)
def test_what_formatting_does_is_a_share_of_ratings(low: float, high: float, lead: str) -> None:
    line = results_text.describe_formatting_effect(
        Coefficient("formatting", Interval((low + high) / 2, low, high, 40))
    )
    assert line.startswith(lead + "between equally strong systems one with twice as much would win ")
    none = Interval(0.0, None, None, 0, why="there are no ratings")
    line = results_text.describe_formatting_effect(Coefficient("formatting", none))
    assert line == "What formatting does can't be determined: there are no ratings."


def test_the_plan_and_the_stop_in_words() -> None:
    line = results_text.describe_ratings_needed
    assert line("a", "b", RatingsNeeded(60)).startswith(
        "About 60 more ratings would show a clear difference between a and b"
    )
    assert line("a", "b", RatingsNeeded(5_000, at_least=True)).endswith("equal can't be determined either.")
    assert line("a", "b", RatingsNeeded(5_000, at_least=True, equal=True)) == (
        "Take a and b as equal: either would win 40% to 60% of decided ratings."
    )
    assert line("a", "b", RatingsNeeded(0)) == "a and b can already be distinguished; no more ratings needed."
    sure = rated(rows(60, lambda k: "left" if k % 6 else "right", 6))
    assert results_text.describe_peek(peek(sure, "b", "a")).startswith("Enough ratings: a is preferred to b.")
    unsure = rated(rows(30, lambda k: "left" if k % 2 else "right", 6))
    assert results_text.describe_peek(peek(unsure, "a", "b")).startswith(
        "Keep rating: after 30 items, there are not enough ratings of a and b to stop, mean preference "
    )
    alone = rated(rows(60, lambda k: "left"))
    assert results_text.describe_peek(peek(alone, "a", "b")) == (
        "Whether to stop can't be determined after 60 items: 1 rater is too few to say that enough is "
        "known, as others may prefer otherwise (from 5 on)."
    )


def test_scores_passes_corrections_and_choices_in_words() -> None:
    rng = np.random.default_rng(0)
    entries = [
        (system, item, "r", "tone", float(np.clip(round(3 + (system == "a") + rng.normal(0, 0.6)), 1, 5)))
        for item in range(30)
        for system in "ab"
    ]
    scores = CriterionScores.of(*map(list, zip(*entries, strict=True)))
    (line,) = results_text.describe_criterion_differences(
        compute_criterion_differences(scores, "a", "b"), "a", "b"
    )
    assert re.match(r"tone: a scores higher than b \(a less b: .* points, 30 paired scores\)\.", line)
    passes = Passes.of(["a"] * 30, list(range(30)), ["r"] * 30, [True] * 24 + [False] * 6)
    assert re.match(
        r"a passes in 80% \(6\d to 9\d%\) of 30 ratings\.",
        results_text.describe_pass_rate("a", compute_pass_rates(passes)["a"]),
    )
    people = rng.integers(0, 2, 300).astype(float)
    judge = np.where(rng.random(300) < 0.9, people, 1 - people)
    people[60:] = np.nan
    told_line = raters_text.describe_corrected_estimate(
        correct_judge(judge, people), "The share of good answers"
    )
    assert "corrected by people's ratings of 60 items" in told_line
    assert "times as many ratings" in told_line
    few = raters_text.describe_corrected_estimate(correct_judge(judge[:5], people[:5]))
    assert few == (
        "The figure can't be corrected with people's ratings: only 5 items were rated by people (from 20 on)."
    )
    chosen = raters_text.describe_prompt_selection(select_prompts({"judge": rng.random(100)}, 20))
    assert re.match(
        r"20 prompts of 100, sampled more often where .* worth 1\d prompts sampled evenly\.", chosen
    )


@pytest.mark.parametrize(("pairs", "equal"), [(3, False), (30, False), (400, True)])
def test_two_are_equal_where_the_whole_interval_says_so(pairs: int, equal: bool) -> None:
    even = rated([("a", "b", ("left", "right")[k % 2], k, "r") for k in range(2 * pairs)])
    fitted = estimate_strengths(even)
    plan = estimate_ratings_needed(fitted, "a", "b")
    share = fitted.difference("a", "b").share
    assert plan.equal == equal == (share.low > 0.4 and share.high < 0.6)
    assert ("as equal" in results_text.describe_ratings_needed("a", "b", plan)) == equal
