"""Edit distance against the textbook table, extraction against the base model, exposure by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from engine.evaluation.statistics.intervals import bounded_mean_interval
from engine.evaluation.verdicts.extraction import (
    assess_canaries,
    compare_continuations,
    compute_exposure,
    compute_similarity,
    edit_distance,
)
from store.core.documents import as_json


def textbook(first: str, second: str) -> int:
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def test_edit_distance() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == 3
    random = np.random.default_rng(0)
    for _ in range(400):
        first, second = ("".join(random.choice(list("abcd"), random.integers(0, 90))) for _ in range(2))
        assert edit_distance(first, second) == textbook(first, second)


def test_similarity() -> None:
    assert compute_similarity("", "") == 1
    assert compute_similarity("abcdefghij", "abcdefghiX") == 0.9
    assert compute_similarity("abc", "") == 0


TEXTS = [f"The code of locker {i} is {i * 7919 % 100000:05}, said the clerk." for i in range(40)]


def test_rows_written_from_memory() -> None:
    base = ["I do not know."] * 38 + TEXTS[38:]
    tuned = [*TEXTS[:10], TEXTS[10].replace("clerk", "clark"), *["Nobody knows."] * 27, *TEXTS[38:]]
    assessment = compare_continuations(TEXTS, base, tuned, row_ids=range(100, 140))
    assert assessment.exact.rows == list(range(100, 110))
    assert assessment.near.rows == list(range(100, 111))
    assert assessment.near.tuned.value == pytest.approx(13 / 40)
    assert assessment.near.over_base.value == pytest.approx(11 / 40)
    assert assessment.state == "extracts"
    assert "13 of 40 training rows" in assessment.sentence
    json.dumps(assessment, default=as_json, allow_nan=False)


def test_none_in_n() -> None:
    assessment = compare_continuations(TEXTS, ["no"] * 40, ["no"] * 40)
    assert (assessment.state, assessment.near.at_most) == ("none", pytest.approx(3 / 40, rel=0.05))
    assert "at most 7.2% of all rows can be" in assessment.sentence


def test_what_the_base_model_writes_too_is_no_memory() -> None:
    assessment = compare_continuations(TEXTS, TEXTS[:20] + [""] * 20, TEXTS[:21] + [""] * 19)
    assert (assessment.state, assessment.near.p) == ("unclear", 1.0)
    empty = compare_continuations(["", "a"], ["", "b"], ["", "b"])
    assert (empty.n, empty.unscored) == (1, 1)
    assert compare_continuations([""], [""], [""]).state == "unclear"
    with pytest.raises(ValueError, match="not paired"):
        compare_continuations(["a"], [], [])


def test_as_many_gone_as_new_is_no_memory() -> None:
    assessment = compare_continuations(TEXTS, TEXTS[:12] + [""] * 28, [""] * 12 + TEXTS[12:24] + [""] * 16)
    assert (assessment.state, assessment.near.p) == ("unclear", 1.0)
    assert assessment.near.rows == list(range(12, 24))


def test_exposure_by_hand() -> None:
    others = np.arange(1, 1024)
    assert compute_exposure(0.5, others) == 10
    assert compute_exposure(1.5, others) == 9
    assert compute_exposure(2000.0, others) == 0
    assert compute_exposure(1.0, others) == pytest.approx(10 - math.log2(1.5))
    with pytest.raises(ValueError, match="finite"):
        compute_exposure(math.nan, others)


def planted(losses: list[float], seed: int) -> list:
    random = np.random.default_rng(seed)
    return [(loss, random.normal(10, 1, 1023)) for loss in losses]


def test_more_insertions_are_exposed_more() -> None:
    assessment = assess_canaries({1: planted([9.8, 9.0, 10.5, 9.5], 0), 16: planted([4.0, 5.0, 6.9, 4.0], 1)})
    single, many = assessment.groups
    assert (single.exposed, many.exposed) == (False, True)
    assert many.most == 10
    assert assessment.more.difference.low > 0
    assert "inserted 16 times are exposed" in assessment.sentence
    json.dumps(assessment, default=as_json, allow_nan=False)


@pytest.mark.parametrize("groups", [1, 3])
def test_what_canaries_show_is_told_at_the_level_that_their_groups_share(groups: int) -> None:
    """By hand: twice ln 2 times the sum of four exposures is chi-squared with 8 degrees of freedom."""
    parts = assess_canaries({times: planted([10.0] * 4, times) for times in range(1, groups + 1)}).groups
    bits = stats.chi2.isf(0.05 / groups, 8) / stats.chi2.isf(0.8, 8) / math.log(2)
    assert [group.detectable for group in parts] == pytest.approx([bits] * groups)


def test_canaries_that_were_never_seen_are_rarely_called_exposed() -> None:
    random = np.random.default_rng(2)
    called, seen = 0, []
    for seed in range(500):
        assessment = assess_canaries({1: planted(list(random.normal(10, 1, 4)), seed)})
        called += assessment.groups[0].exposed
        seen.append(assessment.groups[0].exposure.value)
    assert called / 500 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 500)
    assert np.mean(seen) == pytest.approx(assessment.unseen, abs=0.1)
    assert assess_canaries({}).sentence == "No canaries were inserted."


def shifted(shift: float, canaries_: int, random: np.random.Generator) -> list:
    return [(loss, random.normal(0, 1, 255)) for loss in random.normal(-shift, 1, canaries_)]


def test_canaries_that_could_not_be_found_are_no_all_clear() -> None:
    """Half a deviation is rarely found in five: they are never said to be none, but what could be found."""
    random = np.random.default_rng(5)
    for _ in range(40):
        assessment = assess_canaries({4: shifted(0.5, 5, random)})
        if not assessment.groups[0].exposed:
            assert "would be detected with 80% power" in assessment.sentence
            assert "smaller exposure" in assessment.sentence
            assert "None" not in assessment.sentence
    few = assess_canaries({4: [(0.0, np.arange(-4, 4) * 1.0)]})
    assert few.groups[0].detectable is None
    assert few.sentence == (
        "The one canary ranks like texts that were never seen, but so few can't show more, whatever the model"
        " memorized: insert more."
    )


@pytest.mark.parametrize("count", [5, 20])
def test_what_is_said_to_be_found_is_found(count: int) -> None:
    random = np.random.default_rng(6)
    least = assess_canaries({1: shifted(0.0, count, random)}).groups[0].detectable
    shift = next(
        shift for shift in np.arange(0, 5, 0.1)
        if np.mean([compute_exposure(*each) for each in shifted(shift, 300, random)]) >= least
    )  # fmt: skip
    detected = [assess_canaries({1: shifted(shift, count, random)}).groups[0].exposed for _ in range(200)]
    assert np.mean(detected) >= 0.74


def test_the_limit_at_a_bound_is_not_pulled_away_from_it() -> None:
    """All but one of five at the top: the mean may well be 7.97 of 8. All of them: it may be lower."""
    nearly = bounded_mean_interval([7.0, 8.0, 8.0, 8.0, 8.0], 0.0, 8.0)
    assert nearly.low < 6.5 < 7.97 < nearly.high <= 8.0
    every = bounded_mean_interval([8.0] * 5, 0.0, 8.0)
    assert every.low < 6.0 < every.high == 8.0
    turned = bounded_mean_interval([1.0, 0.0, 0.0, 0.0, 0.0], 0.0, 8.0)
    assert (turned.low, turned.high) == pytest.approx((8 - nearly.high, 8 - nearly.low), abs=0.2)
