"""Strengths of systems from comparisons: against published packages, known truths, and what can't be
known."""

from __future__ import annotations

from dataclasses import replace

import choix
import evalica
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, special

from bench.made.rating_round import Round
from bench.made.voted import arena
from bench.ratings.covariates import RATES as COVARIATES
from bench.ratings.strengths import RATES
from bench.truths import Rate, observe
from engine.rating import results_text
from engine.rating.analysis import resampled_strengths
from engine.rating.analysis.comparisons import Comparisons, PairOutcome, compute_length_difference
from engine.rating.analysis.model_comparison import estimate_ratings_needed
from engine.rating.analysis.rates import (
    CriterionScores,
    Passes,
    Ranks,
    compute_both_bad_rate,
    compute_criterion_means,
    compute_pass_rates,
    compute_win_rates,
    derive_comparisons,
    measure_position_effect,
)
from engine.rating.analysis.strengths import estimate_strengths


def drawn(
    seed: int = 0, *, levels: tuple[float, ...] = (1.5, 0.8, 0.3, 0.0), items: int = 300
) -> Comparisons:
    rng = np.random.default_rng(seed)
    round_ = Round(levels, items=items, raters=4, apart=2, of_item=0.0)
    return round_.draw(rng, round_.people(rng))


def rated(*outcomes: tuple[str, str, str, int, str]) -> Comparisons:
    """(left, right, outcome, item, rater) each."""
    return Comparisons.of(*map(list, zip(*outcomes, strict=True)))


def test_strengths_and_ties_are_newmans() -> None:
    comparisons = drawn()
    left, right = ([comparisons.systems[k] for k in side] for side in (comparisons.left, comparisons.right))
    winners = [(evalica.Winner.X, evalica.Winner.Y, evalica.Winner.Draw)[k] for k in comparisons.outcome]
    newman = evalica.newman(left, right, winners, tie_weight=1.0, tolerance=1e-12, limit=10_000)
    logs = np.log(newman.scores[list(comparisons.systems)].to_numpy())
    ours = estimate_strengths(comparisons, resamples=50)
    assert [at.value for at in ours.strengths] == pytest.approx(list(logs - logs.mean()), abs=1e-4)
    assert ours.ties.value == pytest.approx(2 * newman.v, abs=1e-4)


def test_without_ties_they_are_bradley_and_terrys() -> None:
    comparisons = drawn()
    decided = comparisons.take(comparisons.outcome < PairOutcome.TIE)
    won = np.where(decided.outcome == PairOutcome.LEFT, decided.left, decided.right).tolist()
    lost = np.where(decided.outcome == PairOutcome.LEFT, decided.right, decided.left).tolist()
    theirs = choix.opt_pairwise(4, list(zip(won, lost, strict=True)), alpha=1e-5)
    ours = [at.value for at in estimate_strengths(decided, resamples=50).strengths]
    assert ours == pytest.approx(list(theirs - theirs.mean()), abs=1e-3)


def likeliest(comparisons: Comparisons, toward_left: NDArray[np.float64]) -> NDArray[np.float64]:
    """Davidson's strengths less their mean, by an optimiser that knows of nothing but the likelihood.
    toward_left: of each vote that is no tie, how much of it is for the left side."""
    count, tie = len(comparisons.systems), comparisons.outcome == PairOutcome.TIE
    weights = comparisons.vote_weights  # each item and pair counts once, however many voted

    def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        half = (theta[comparisons.left] - theta[comparisons.right]) / 2
        logits = np.column_stack([half, -half, np.full(len(half), theta[-1])])
        whole = special.logsumexp(logits, axis=1)
        given = np.column_stack([toward_left * ~tie, (1 - toward_left) * ~tie, tie])
        off = weights[:, None] * (np.exp(logits - whole[:, None]) - given)
        slope = np.zeros(count + 1)
        np.add.at(slope, comparisons.left, (off[:, 0] - off[:, 1]) / 2)
        np.add.at(slope, comparisons.right, (off[:, 1] - off[:, 0]) / 2)
        slope[-1] = off[:, 2].sum()
        return float(weights @ (whole - (given * logits).sum(axis=1))), slope

    options = {"gtol": 1e-8, "ftol": 1e-15, "maxiter": 5_000}
    fitted = optimize.minimize(loss, np.zeros(count + 1), jac=True, method="L-BFGS-B", options=options).x[:-1]
    return fitted - fitted.mean()


def test_strengths_of_59_models_are_the_likeliest_ones() -> None:
    comparisons = arena(8_931)
    toward_left = (comparisons.outcome == PairOutcome.LEFT).astype(float)
    ours = [at.value for at in estimate_strengths(comparisons, resamples=50).strengths]
    assert ours == pytest.approx(list(likeliest(comparisons, toward_left)), abs=1e-4)


def test_a_vote_that_is_three_quarters_for_a_side_counts_so() -> None:
    hard = arena(3_000, 6)
    rng = np.random.default_rng(1)
    sure = np.where(rng.random(len(hard)) < 0.5, rng.uniform(0.5, 1, len(hard)), np.nan)
    preference = np.where(hard.outcome == PairOutcome.LEFT, sure, 1 - sure)
    preference[hard.outcome == PairOutcome.TIE] = np.nan
    soft = replace(hard, preference=preference)
    toward_left = np.where(soft.soft, preference, hard.outcome == PairOutcome.LEFT)
    fitted = estimate_strengths(soft, resamples=50)
    assert [at.value for at in fitted.strengths] == pytest.approx(
        list(likeliest(soft, toward_left)), abs=1e-4
    )
    assert fitted.soft == soft.soft.sum()
    assert f"{fitted.soft:,} votes say how sure they are" in " ".join(results_text.describe_caveats(fitted))
    rates = compute_win_rates(soft, "s0")
    mine = (soft.left == 0) | (soft.right == 0)
    won = np.where(soft.left == 0, toward_left, 1 - toward_left)[mine & (soft.outcome != PairOutcome.TIE)]
    votes = soft.take(mine).vote_weights[soft.take(mine).outcome != PairOutcome.TIE]
    assert rates.wins.value == pytest.approx(won @ votes / soft.take(mine).vote_weights.sum())


def test_votes_that_are_wholly_for_a_side_count_as_ever() -> None:
    plain = arena(300, 3)
    whole = np.where(plain.outcome == PairOutcome.TIE, np.nan, plain.outcome == PairOutcome.LEFT)
    of_parts = estimate_strengths(replace(plain, preference=whole)).strengths
    for ours, theirs in zip(of_parts, estimate_strengths(plain).strengths, strict=True):
        assert (ours.low, ours.value, ours.high) == pytest.approx((theirs.low, theirs.value, theirs.high))


def test_a_preference_for_the_side_that_lost_is_refused() -> None:
    plain = rated(("a", "b", "left", 0, "r"), ("a", "b", "tie", 1, "r"))
    for preference in ([0.4, np.nan], [0.6, 0.5], [1.2, np.nan]):
        with pytest.raises(ValueError, match="preference"):
            replace(plain, preference=np.array(preference))


@pytest.mark.parametrize("items", [20, 3_000])
def test_one_step_comes_to_what_fits_of_their_own_come_to(
    items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparisons = arena(6_000, 12, items=items)
    monkeypatch.setattr(resampled_strengths, "CHUNK", 500_000)
    step = estimate_strengths(comparisons, resamples=4_000).differences
    monkeypatch.setattr(resampled_strengths, "KNOWN_ERROR", 0.0)
    fits = estimate_strengths(comparisons, resamples=4_000).differences
    assert step[0].interval.high != fits[0].interval.high  # it was another way
    apart = [
        (stepped.interval.high - fitted.interval.high) / (fitted.interval.high - fitted.interval.low)
        for stepped, fitted in zip(step, fits, strict=True)
    ]
    assert np.abs(apart).max() < 0.08
    assert abs(np.mean(apart)) < 0.02


def test_a_model_that_is_hardly_known_takes_fits_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    votes = arena(6_000, 12, items=3_000)
    monkeypatch.setattr(resampled_strengths, "CHUNK", 100_000)
    few = votes.take(~((votes.left == 0) | (votes.right == 0)) | (np.arange(len(votes)) < 60))
    monkeypatch.setattr(resampled_strengths, "_update_one_step", None)  # would raise
    assert estimate_strengths(few, resamples=50).strengths[0].se > resampled_strengths.KNOWN_ERROR
    with pytest.raises(TypeError):
        estimate_strengths(votes, resamples=50)


def test_a_tie_is_not_half_a_win() -> None:
    many = drawn(levels=(1.5, 0.0), items=3_000)
    at = estimate_strengths(many, resamples=50).difference("s0", "s1").interval
    assert at.value == pytest.approx(1.5, abs=0.15)
    half = np.where(
        many.outcome == PairOutcome.TIE, 0.5, (many.signs * np.where(many.left == 0, 1, -1) + 1) / 2
    )
    assert np.log(half.mean() / (1 - half.mean())) < 1.25


QUICK = ("10 items, 3 raters each", "30 items, all pairs by 2 raters", "equal, any called better, 2 systems")


@pytest.mark.parametrize(
    "rate", [rate for rate in RATES if rate.name.endswith(QUICK[:2]) or rate.name.startswith(QUICK[2])],
    ids=lambda rate: rate.name,
)  # fmt: skip
def test_intervals_cover(rate: Rate) -> None:
    share = observe(rate, 40).share
    assert share < 0.2 if rate.nominal == 0.05 else share > 0.83


def test_length_comes_back() -> None:
    rate = next(rate for rate in COVARIATES if "coefficient" in rate.name and "longer liked" in rate.name)
    assert observe(rate, 25).share > 0.75


def test_either_way_round_says_the_same() -> None:
    pair = estimate_strengths(drawn(), resamples=200).difference("s0", "s3")
    turned = pair.turned()
    assert turned.interval.value == -pair.interval.value
    assert (turned.interval.low, turned.interval.high) == (-pair.interval.high, -pair.interval.low)
    assert (pair.verdict, turned.verdict) == ("better", "worse")
    assert turned.share.value == pytest.approx(1 - pair.share.value)
    assert pair.chance > 0.99


def test_what_always_wins_has_no_upper_limit() -> None:
    always = rated(*[("a", "b", "left", item, "r") for item in range(20)])
    pair = estimate_strengths(always).difference("a", "b")
    assert (pair.verdict, pair.unbounded, pair.interval.high) == ("better", "above", None)
    assert 0.7 < pair.share.low < 0.95
    assert pair.share.high == 1
    assert np.isfinite(pair.interval.value)


def test_what_no_chain_connects_is_not_compared() -> None:
    apart = [("a", "b", "left" if item % 3 else "right", item, "r") for item in range(20)]
    apart += [("c", "d", "left" if item % 2 else "right", item, "r") for item in range(20)]
    found_apart = estimate_strengths(rated(*apart))
    assert found_apart.groups == (("a", "b"), ("c", "d"))
    assert found_apart.difference("a", "d").verdict == "none"
    assert found_apart.difference("a", "d").interval.low is None
    assert found_apart.difference("a", "b").verdict == "unclear"


def test_two_that_lost_to_one_alone_are_not_compared() -> None:
    lost = [("a", "c", "left", item, "r") for item in range(10)]
    lost += [("b", "c", "left", item, "r") for item in range(10)]
    assert estimate_strengths(rated(*lost)).difference("a", "b").verdict == "none"


def test_both_bad_and_repeats_are_no_ties() -> None:
    rows = [("a", "b", ("left", "right", "tie", "left")[item % 4], item, "r") for item in range(40)]
    bad = [("a", "b", "both_bad", 40 + item, "r") for item in range(10)]
    again = [("b", "a", "left", item, "r") for item in range(10)]
    plain, more = rated(*rows), rated(*rows, *bad, *again)
    repeat = np.r_[np.zeros(50, bool), np.ones(10, bool)]
    more = Comparisons(**{**vars(more), "repeat": repeat})
    assert (
        estimate_strengths(more).difference("a", "b").interval
        == estimate_strengths(plain).difference("a", "b").interval
    )
    assert estimate_strengths(more).left_out == 10
    assert compute_both_bad_rate(more).value == pytest.approx(0.2)
    rates = compute_win_rates(more, "a")
    assert (rates.wins.value, rates.ties.value, rates.losses.value) == pytest.approx((0.4, 0.2, 0.2))
    assert rates.score.value == pytest.approx((20 + 5) / 40)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([("a", "b", "left", 0, "r")], "there is only one item (from 5 on there is an interval)"),
        ([("a", "b", "tie", item, "r") for item in range(30)], "every comparison is a tie"),
        ([("a", "b", "both_bad", item, "r") for item in range(9)], "there are no ratings"),
        (
            [("a", "b", "left" if item < 3 else "tie", item, "r") for item in range(30)],
            "only 3 of 30 comparisons were decided",
        ),
        ([("a", "b", "left", item % 2, f"r{item}") for item in range(30)],
         "2 items are too few (from 5 on there is an interval)"),
    ],
)  # fmt: skip
def test_too_little_gives_no_interval_and_says_why(rows: list, why: str) -> None:
    pair = estimate_strengths(rated(*rows)).differences[0]
    assert (pair.interval.low, pair.interval.high) == (None, None)
    assert pair.interval.why == why
    assert estimate_ratings_needed(estimate_strengths(rated(*rows)), "a", "b").count is None


def test_few_raters_speak_for_themselves_alone() -> None:
    assert estimate_strengths(drawn()).over == "items"
    rows = [
        ("a", "b", "left" if (item + k) % 3 else "right", item, f"r{k}")
        for item in range(20)
        for k in range(5)
    ]
    assert estimate_strengths(rated(*rows)).over == "items and raters"


def test_raters_who_part_make_the_interval_wider() -> None:
    def width(parted: bool) -> float:
        sides = ("left", "right", "tie") if not parted else ("left",) * 3
        rows = [
            ("a", "b", sides[(item + k) % 3] if not parted or k < 3 else "right", item, f"r{k}")
            for item in range(40)
            for k in range(6)
        ]
        at = estimate_strengths(rated(*rows)).difference("a", "b").interval
        return at.high - at.low

    assert width(True) > 2 * width(False)


def test_a_side_that_always_shows_the_same_model_says_nothing_of_sides() -> None:
    always = rated(*[("a", "b", "left" if item % 4 else "right", item, "r0") for item in range(60)])
    assert measure_position_effect(always).why
    assert "can't be determined" in results_text.describe_position_effect(measure_position_effect(always))
    both = [("a", "b") if item % 2 else ("b", "a") for item in range(60)]
    drawn = rated(*[(*pair, "left" if item % 4 else "right", item, "r0") for item, pair in enumerate(both)])
    assert not measure_position_effect(drawn).why


def test_the_side_that_raters_prefer_is_seen_and_held_equal() -> None:
    round_ = Round((0.0, 0.0), items=200, raters=2, side=(1.0, 0.0), of_item=0.0)
    rng = np.random.default_rng(0)
    comparisons = round_.draw(rng, round_.people(rng))
    effect = measure_position_effect(comparisons)
    assert effect.share.low > 0.5
    held = estimate_strengths(comparisons, position=True)
    assert held.coefficients[0].interval.low < 1 < held.coefficients[0].interval.high
    assert held.difference("s0", "s1").verdict == "unclear"


def test_longer_answers_that_are_liked_are_not_better_at_equal_length() -> None:
    rng = np.random.default_rng(0)
    round_ = Round((0.0, 0.0), items=200, raters=2, of_item=0.0, taste=2.0, longer=1.0)
    comparisons = round_.draw(rng, round_.people(rng))
    assert estimate_strengths(comparisons).difference("s1", "s0").verdict == "better"
    equal = estimate_strengths(comparisons, covariates=["length"])
    assert equal.difference("s1", "s0").verdict == "unclear"
    assert equal.coefficients[0].interval.low > 1
    with pytest.raises(ValueError, match="'marks' is none of length"):
        estimate_strengths(comparisons, covariates=["marks"])
    assert compute_length_difference([100, 0], [50, 1]) == pytest.approx([np.log(2), 0])


def test_ranks_become_comparisons() -> None:
    ranks = Ranks.of(["a", "b", "c"] * 2, [0, 0, 0, 1, 1, 1], ["r"] * 6, [1, 2, 2, 3, 1, 2])
    comparisons = derive_comparisons(ranks)
    assert len(comparisons) == 6
    assert comparisons.outcome.tolist() == [0, 0, 2, 1, 1, 0]


def test_more_ratings_are_fewer_for_a_larger_difference() -> None:
    def more(wins: int) -> tuple[int | None, bool]:
        rows = [("a", "b", "left" if item < wins else "right", item, "r") for item in range(100)]
        plan = estimate_ratings_needed(estimate_strengths(rated(*rows)), "a", "b")
        return plan.count, plan.at_least

    assert [more(wins) for wins in (80, 50)] == [(0, False), (5_000, True)]
    # 194 decided ratings tell 60% from a half in 80 of 100 rounds, 783 tell 55%
    assert more(58)[0] in (200, 300)
    assert more(55)[0] in (600, 700, 800)


def test_weights_stand_for_prompts_that_were_likelier() -> None:
    rows = [("a", "b", "left" if item < 30 else "right", item, "r") for item in range(40)]
    plain = rated(*rows)
    weighted = Comparisons(**{**vars(plain), "weights": np.r_[np.full(30, 1.0), np.full(10, 3.0)]})
    assert estimate_strengths(weighted).difference("a", "b").interval.value == pytest.approx(0, abs=1e-4)
    assert estimate_strengths(plain).difference("a", "b").interval.value == pytest.approx(np.log(3), abs=1e-3)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("left", np.array([0, 1]), "left: entry 1 is 1|right: entry|left and right"),
        ("outcome", np.array([0, 7]), "outcome: entry 1 is 7"),
        ("item", np.array([0, 5]), "item: entry 1 is 5"),
        ("rater", np.array([0]), r"rater: \(1,\) is not one value for each of 2"),
        ("seconds", np.array([1.0]), "seconds"),
        ("weights", np.array([1.0, 0.0]), "weights: each must be a number above 0"),
        ("differences", np.array([[1.0], [np.nan]]), "differences"),
        ("systems", ("a", "a"), "systems: 'a' is listed twice"),
    ],
)
def test_what_does_not_fit_is_refused(field: str, value: object, message: str) -> None:
    fitting = {
        "systems": ("a", "b"), "left": np.array([0, 0]), "right": np.array([1, 1]),
        "outcome": np.array([0, 1]), "item": np.array([0, 1]), "rater": np.array([0, 0]), "raters": ("r",),
        "items": ("x", "y"),
    }  # fmt: skip
    assert len(Comparisons(**fitting)) == 2
    with pytest.raises(ValueError, match=message):
        Comparisons(**{**fitting, field: value})
    with pytest.raises(ValueError, match="'maybe' is none of left, right, tie, both_bad"):
        Comparisons.of(["a"], ["b"], ["maybe"], [0], ["r"])


# -- prompts that everybody rates ---------------------------------------------------------------------


def _with_votes(everybodys: int) -> list[tuple[int, str, int]]:
    """Item, rater, and what each of two raters said: 0, 1 or 2; the first four items by so many as each."""
    answers = [(item, rater, (item * (rater + 2)) % 3) for item in range(30) for rater in range(2)]
    return [
        (item, f"{rater}-{copy}", what)
        for item, rater, what in answers
        for copy in range(everybodys if item < 4 else 1)
    ]


def _values(votes: list[tuple[int, str, int]]) -> dict[str, float]:
    """Each figure of a round by its name."""
    items, raters, answers = ([*column] for column in zip(*votes, strict=True))
    outcomes: list[PairOutcome | str] = [("left", "right", "tie")[what] for what in answers]
    pairs = Comparisons.of(["X"] * len(votes), ["Y"] * len(votes), outcomes, items, raters)
    scores = CriterionScores.of(
        ["X"] * len(votes), items, raters, ["Tone"] * len(votes), [1 + w for w in answers]
    )
    passes = Passes.of(["X"] * len(votes), items, raters, [what > 0 for what in answers])
    ranks = Ranks.of(
        *(["X", "Y"] * len(votes), np.repeat(items, 2), np.repeat(raters, 2)),
        [rank for what in answers for rank in ((1, 2), (2, 1), (1, 1))[what]],
    )
    return {
        "strength": estimate_strengths(pairs).difference("X", "Y").interval.value,
        "wins": compute_win_rates(pairs, "X").wins.value,
        "ties": estimate_strengths(pairs).ties.value,
        "side": measure_position_effect(pairs).share.value,
        "ranks": estimate_strengths(derive_comparisons(ranks)).difference("X", "Y").interval.value,
        "score": compute_criterion_means(scores)["X", "Tone"].value,
        "passes": compute_pass_rates(passes)["X"].value,
    }


def test_a_prompt_that_everybody_rates_weighs_as_any_other() -> None:
    """What some prompts get beyond the overlap moves no figure."""
    assert _values(_with_votes(everybodys=10)) == pytest.approx(_values(_with_votes(everybodys=1)), abs=1e-6)
