"""Sets of labels and spans: their distances, how far people agree, and what is said of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bench.ratings.spans import RATES
from bench.truths import Rate, observe
from engine.rating import round_text
from engine.rating.analysis.krippendorff_alpha import (
    LabelledSpan,
    MarkedText,
    compute_alpha,
    compute_set_alpha,
    compute_span_alpha,
    masi_distance,
)
from engine.rating.analysis.labels import compute_label_set_statistics
from engine.rating.analysis.reasons_text import NO_SET_INTERVAL
from engine.rating.analysis.spans import compute_span_matches, compute_span_statistics
from store.core.rating_schemas import AssignedTask, Round, RoundItem, RoundSystem
from tests.unit.store_samples import row_of

LABELS = ["price", "tone", "delivery"]


def sets(*given: str) -> list[frozenset[str]]:
    return [frozenset(each.split()) for each in given]


def task(item: int, rater: str, answer: Any, purpose: str = "first", **more: Any) -> AssignedTask:
    return row_of(
        AssignedTask, task_id=f"{rater}-{item}-{purpose}", item_id=item, person_id=rater, person_name=rater,
        systems=[0], purpose=purpose, answer=answer, **more,
    )  # fmt: skip


def test_the_distance_of_two_sets_is_masi() -> None:
    distances = masi_distance(sets("", "a", "b", "a b", "a c", "a b c"))
    assert np.allclose(np.diag(distances), 0)
    assert np.allclose(distances, distances.T)
    assert distances[0, 1] == 1  # nothing against something
    assert distances[1, 2] == 1  # nothing shared
    assert distances[1, 3] == pytest.approx(1 - 1 / 2 * 2 / 3)  # one holds the other
    assert distances[3, 4] == pytest.approx(1 - 1 / 3 * 1 / 3)  # they share one of three
    assert distances[3, 5] == pytest.approx(1 - 2 / 3 * 2 / 3)


def test_sets_of_one_label_agree_as_labels_do() -> None:
    rng = np.random.default_rng(3)
    first = rng.choice(LABELS, 60)
    second = np.where(rng.random(60) < 0.7, first, rng.choice(LABELS, 60))
    values, items = [*first.tolist(), *second.tolist()], [*range(60), *range(60)]
    plain, of_sets = (
        compute_alpha(values, items),
        compute_set_alpha([frozenset([value]) for value in values], items),
    )
    assert of_sets.interval.value == pytest.approx(plain.interval.value)
    assert (of_sets.interval.low, of_sets.interval.why) == (None, NO_SET_INTERVAL)


def test_sharing_a_label_is_agreeing_in_part() -> None:
    items = [*range(40), *range(40)]
    first = [frozenset(["price"] if item % 2 else ["tone"]) for item in range(40)]
    more = [given | ({"delivery"} if item % 4 == 0 else set()) for item, given in enumerate(first)]
    other = [frozenset(["delivery"]) if item % 4 == 0 else given for item, given in enumerate(first)]
    assert compute_set_alpha([*first, *first], items).interval.value == 1
    in_part, not_at_all = (compute_set_alpha([*first, *each], items).interval.value for each in (more, other))
    assert 0 < not_at_all < in_part < 1


def marked(item: int, rater: str, *spans: tuple[int, int, str], characters: int = 100) -> MarkedText:
    return MarkedText(item, 0, rater, characters, tuple(LabelledSpan(*span) for span in spans))


def test_alpha_of_spans_is_that_of_their_characters() -> None:
    texts, values, items = [], [], []
    for item in range(30):
        for rater, (start, end) in (("a", (10, 20 + item % 3)), ("b", (10 + item % 4, 22))):
            texts.append(marked(item, rater, (start, end, "x")))
            values += ["x" if start <= place < end else "" for place in range(100)]
            items += [100 * item + place for place in range(100)]
    by_character = compute_alpha(values, items, resamples=2).interval.value
    assert compute_span_alpha(texts).interval.value == pytest.approx(by_character, abs=0.01)


def test_a_long_text_counts_as_much_as_a_short_one() -> None:
    def texts(characters: int) -> list[MarkedText]:
        agreed = [marked(item, rater, (0, 50, "x")) for item in range(30) for rater in "ab"]
        parted = [
            MarkedText(99, 0, rater, characters, (LabelledSpan(at, at + characters // 4, "x"),))
            for rater, at in (("a", 0), ("b", characters // 2))
        ]
        return [*agreed, *parted]

    assert compute_span_alpha(texts(100)).interval.value == pytest.approx(
        compute_span_alpha(texts(100_000)).interval.value
    )


def test_f1_counts_spans_that_match_exactly() -> None:
    texts = [
        text
        for item in range(60)
        for text in (
            marked(item, "a", (0, 5, "x"), (10, 15, "x")),
            marked(item, "b", (0, 5, "x"), *([(10, 16, "x")] if item % 2 else [(10, 15, "x")])),
        )
    ]
    together, pairs = compute_span_matches(texts)
    assert together.value == pytest.approx((30 * 4 + 30 * 2) / (60 * 4))
    assert together.low is not None
    assert together.low < together.value < (together.high or 0)
    assert [(pair.first, pair.second, pair.interval.value) for pair in pairs] == [("a", "b", together.value)]


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ([], "no text"),
        ([marked(0, "a", (0, 1, "x"))], "no text"),
        ([marked(0, "a"), marked(0, "b")], "no text"),
        ([marked(0, "a", (0, 1, "x")), marked(0, "b")], "1 text is too few"),
        ([marked(item, rater, (0, 1, "x")) for item in range(2) for rater in "ab"], "2 texts are too few"),
        ([marked(item, rater, (0, 1, "x")) for item in range(90) for rater in "ab"], "only 0 of 90"),
    ],
)
def test_f1_of_little_has_no_interval_and_says_why(texts: list[MarkedText], why: str) -> None:
    at, _ = compute_span_matches(texts)
    assert at.low is None
    assert why in at.why
    assert "nan" not in round_text.describe_span_match("All raters", at)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_little_of_several_labels_is_told_without_figures(count: int) -> None:
    tasks = [task(item, rater, {"labels": ["price"]}) for item in range(count) for rater in "ab"]
    figures = compute_label_set_statistics(LABELS, tasks, dict.fromkeys(range(count), 1.0))  # type: ignore[arg-type]
    sentences = round_text.summarize_label_sets(figures)
    assert "nan" not in str(sentences)
    if count:
        assert sentences.verdict[0].startswith(f"{count} text")
        assert "can't be determined" in sentences.agreement[0]
    else:
        assert sentences.verdict == [round_text.NOTHING_RATED]


def test_a_text_has_the_labels_that_most_gave_and_halves_leave_it_open() -> None:
    votes = {0: ("price", "price tone", "price"), 1: ("price", "tone"), 2: ("", "")}
    tasks = [
        task(item, f"r{place}", {"labels": given.split(), "note": ""})
        for item, each in votes.items()
        for place, given in enumerate(each)
    ]
    again = task(0, "r0", {"labels": ["tone"]}, "repeat", repeat_of="r0-0-first")
    skipped = task(2, "r9", {"skipped": True, "reason": ""})
    gold = task(7, "r0", {"labels": ["delivery"]}, "gold")
    figures = compute_label_set_statistics(
        LABELS, [*tasks, again, skipped, gold], dict.fromkeys(range(3), 1.0)
    )
    assert figures.settled == {0: ["price"], 2: []}
    assert figures.disputed == [1]
    assert [(each.label, each.texts) for each in figures.labels] == [("price", 1), ("tone", 0)]
    assert (figures.ratings, figures.skipped) == (7, 1)
    assert figures.same_again is not None
    assert (figures.same_again.value, figures.same_again.n) == (0, 1)


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_spans_that_are_all_the_same_or_none_are_told_without_nan(count: int) -> None:
    models = [row_of(RoundSystem, name="m")]
    round = row_of(Round, config={"subject": "answer"}, systems=models, protocol="spans")
    items = [
        row_of(RoundItem, item_id=item, answers=["Ada flew"], prompt=[], weight=1.0) for item in range(count)
    ]
    for spans in ([], [{"start": 0, "end": 3, "label": "x"}]):
        tasks = [task(item, rater, {"spans": spans}) for item in range(count) for rater in "ab"]
        figures = compute_span_statistics(round, tasks, items)
        sentences = round_text.summarize_spans(figures)
        assert "nan" not in str(sentences)
        assert math.isnan(figures.alpha.interval.value) or figures.alpha.interval.value == 1
        assert figures.alpha.interval.low is None


@pytest.mark.parametrize("rate", [RATES[0], RATES[-1]], ids=lambda rate: rate.name)
def test_intervals_cover(rate: Rate) -> None:
    assert observe(rate, 60).share >= 0.85
