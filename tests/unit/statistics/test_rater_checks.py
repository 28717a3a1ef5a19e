"""Raters by their check items: who is flagged, at what level, and that checks are no votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from scipy import stats

from engine.rating.analysis.labels import (
    compute_label_statistics,
    compute_sampling_weights,
    list_served_labels,
)
from engine.rating.analysis.rater_checks import (
    RaterChecks,
    compute_rater_checks,
    count_ratings,
    find_unqualified_raters,
    is_surely_below,
)
from engine.rating.raters_text import describe_all_rater_checks, describe_rater_checks, format_counted_ratings
from store.core.rating_schemas import (
    GOLD_PASS,
    AssignedTask,
    CheckKind,
    Purpose,
    Round,
    RoundItem,
    RoundSystem,
)
from tests.unit.store_samples import row_of

ITEM_IDS: dict[str | None, int] = {None: 0, "gold": 1_000, "attention": 2_000, "qualification": 3_000}


def round_of(protocol: str = "pairwise", **config: Any) -> Round:
    systems = [row_of(RoundSystem, name=name) for name in ("one", "two")]
    return row_of(Round, protocol=protocol, config=config, systems=systems)


def item(item_id: int, check: CheckKind | None, expected: Any = None) -> RoundItem:
    texts = {"prompt": [], "answers": ["x", "yy"], "named": False}
    return row_of(RoundItem, item_id=item_id, check=check, expected=expected, weight=1.0, **texts)


def task(
    item_id: int, purpose: Purpose, answer: Any, person: str = "bob", seconds: float = 9.0
) -> AssignedTask:
    about = {"task_id": f"{person}-{item_id}", "item_id": item_id, "purpose": purpose, "systems": [0, 1]}
    who = {"person_id": person, "person_name": person.title()}
    return row_of(AssignedTask, answer=answer, seconds=seconds, **about, **who)


def checks_of(
    right: int, n: int, kind: CheckKind, person: str = "bob"
) -> tuple[list[AssignedTask], list[RoundItem]]:
    ids = range(ITEM_IDS[kind], ITEM_IDS[kind] + n)
    answers = [{"choice": "A" if place < right else "B"} for place in range(n)]
    tasks = [task(item_id, kind, given, person) for item_id, given in zip(ids, answers, strict=True)]
    return tasks, [item(item_id, kind, {"choice": "A"}) for item_id in ids]


def false_alarms(n: int, accuracy: float, mark: float) -> float:
    """How often a rater of this accuracy is flagged, over both kinds of check: no draw is needed."""
    alarm = sum(
        stats.binom.pmf(right, n, accuracy) for right in range(n + 1) if is_surely_below(right, n, mark)
    )
    return float(1 - (1 - alarm) ** 2)


@pytest.mark.parametrize("mark", [0.5, GOLD_PASS, 0.7, 0.8, 0.9])
def test_a_rater_at_the_mark_or_above_is_flagged_in_under_one_of_twenty(mark: float) -> None:
    for n in range(1, 101):
        for accuracy in (mark, 0.9, 0.97):
            assert false_alarms(n, accuracy, mark) <= 0.05, (n, accuracy)


def test_whoever_tosses_coins_or_worse_is_flagged_before_long() -> None:
    assert false_alarms(20, 1 / 3, GOLD_PASS) > 0.8
    assert [is_surely_below(0, n, GOLD_PASS) for n in (4, 5)] == [False, True]


def flags(
    tasks: Sequence[AssignedTask], items: Sequence[RoundItem], **config: Any
) -> dict[str, tuple[str, ...]]:
    return {each.person_id: each.flags for each in compute_rater_checks(round_of(**config), tasks, items)}


def test_failing_checks_are_flagged_by_kind_and_against_the_mark_of_the_round() -> None:
    gold, gold_items = checks_of(2, 10, "gold")
    attention, attention_items = checks_of(0, 6, "attention")
    items = [*gold_items, *attention_items]
    assert flags([*gold, *attention], items)["bob"] == ("failing gold items", "failing attention items")
    assert flags([*gold, *attention], items, gold_pass=0.0)["bob"] == ()
    fine, _ = checks_of(9, 10, "gold")
    assert flags(fine, items)["bob"] == ()


@pytest.mark.parametrize(
    ("protocol", "answer"),
    [
        ("pairwise", {"choice": "A"}),
        ("rank", {"ranks": [1, 2]}),
        ("rubric", {"scores": {"Tone": 3}}),
        ("pass_fail", {"passed": True, "reasons": []}),
        ("label", {"label": "card", "note": ""}),
        ("correction", {"text": "Better."}),
    ],
)
def test_too_fast_is_told_of_every_protocol(protocol: str, answer: Any) -> None:
    tasks = [task(n, "first", answer, person, pace) for n in range(10)
             for person, pace in (("bob", 0.7), ("cleo", 8.0), ("judge", 0.0))]  # fmt: skip
    by_person = {each.person_id: each.flags for each in compute_rater_checks(round_of(protocol), tasks, [])}
    assert by_person == {"bob": ("too fast",), "cleo": (), "judge": ()}
    assert (
        compute_rater_checks(round_of(protocol), tasks[:27], [])[0].flags == ()
    )  # nine ratings say nothing yet


def test_ratings_left_out_are_counted_by_rater_and_reason() -> None:
    checks = [
        RaterChecks("a", "Ann", 312, {}, ()),
        RaterChecks("b", "Bob", 41, {}, ("too fast",)),
        RaterChecks("c", "Cleo", 5, {}, ("too fast",)),
        RaterChecks("d", "Dan", 7, {}, ()),
    ]
    counted = count_ratings(checks, ["d"])
    assert [(each["rater"], each["ratings"]) for each in counted["left_out"]] == [
        ("Bob", 41), ("Cleo", 5), ("Dan", 7),
    ]  # fmt: skip
    assert format_counted_ratings(counted) == (
        "312 ratings of 1 rater; left out 46 ratings of 2 raters flagged as too fast;"
        " left out 7 ratings of 1 rater left out by hand"
    )
    assert (
        format_counted_ratings(count_ratings(checks, [], include_flagged=True)) == "365 ratings of 4 raters"
    )


def test_a_rater_has_failed_the_qualification_once_all_of_it_is_answered() -> None:
    failed, items = checks_of(1, 4, "qualification", "bob")
    passed, _ = checks_of(3, 4, "qualification", "cleo")
    begun, _ = checks_of(0, 3, "qualification", "dan")
    round = round_of(qualification_pass=0.75)
    assert find_unqualified_raters(round, [*failed, *passed, *begun], items) == ["bob"]


def test_checks_of_a_round_of_labels_are_in_none_of_its_figures() -> None:
    round = round_of("label")
    items = [item(0, None), replace(item(1_000, "gold", {"label": "card"}), answers=[])]
    served = list_served_labels(round, items, [])
    given = [task(0, "first", {"label": "x", "note": ""}), task(1_000, "gold", {"label": "y", "note": ""}),
             task(1_001, "gold", {"skipped": True})]  # fmt: skip
    figures = compute_label_statistics(given, served, compute_sampling_weights(round, items, []))
    assert (figures.counts, figures.ratings, figures.skipped) == ([("x", 1)], 1, 0)
    assert {each.item_id for each in served} == {0}


def test_what_is_said_of_a_rater_has_shares_with_intervals_and_n() -> None:
    tasks, items = checks_of(2, 10, "gold")
    votes = [task(n, "first", {"choice": "A"}) for n in range(12)]
    checks = compute_rater_checks(round_of(), [*tasks, *votes], items)
    lines = describe_rater_checks(checks[0])
    assert lines[0] == "Bob: flagged as failing gold items."
    assert lines[1].startswith("Bob: right in 20% (3 to 56%) of 10 known answers")
    assert describe_all_rater_checks(checks, ())[-1].startswith(
        "Of flagged raters: 12 ratings, by Bob (failing gold items)."
    )
    assert len(describe_all_rater_checks(checks, ["bob"])) == 2
