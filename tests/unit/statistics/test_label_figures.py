"""What people's labels come to."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.evaluation.statistics.intervals import wilson_interval
from engine.rating.analysis.krippendorff_alpha import compute_alpha
from engine.rating.analysis.labels import (
    ServedLabel,
    compute_label_statistics,
    compute_sampling_weights,
    list_served_labels,
)
from engine.rating.round_text import describe_version_accuracy, summarize_labels
from store.core.rating_schemas import AssignedTask, Round, RoundItem, RoundRequest
from tests.unit.store_samples import row_of


def task(item_id: int, label: str | None, person: str = "bob", **changed: Any) -> AssignedTask:
    given = {"task_id": f"{person}-{item_id}", "purpose": "first", "answer": {"label": label, "note": ""}}
    return row_of(
        AssignedTask,
        item_id=item_id,
        person_id=person,
        person_name=person,
        systems=[0],
        **{**given, **changed},
    )


def drawn_of(tasks: list[AssignedTask]) -> dict[int, float]:
    """All texts had the same chance."""
    return {task.item_id: 1.0 for task in tasks}


def test_a_version_is_judged_by_the_random_texts_alone() -> None:
    tasks = [task(n, "a" if n < 15 else "b") for n in range(40)]
    tasks.append(task(40, None))
    served = [ServedLabel(n, "m@1", "a", random=n < 20) for n in range(41)]
    figures = compute_label_statistics(tasks, served, drawn_of(tasks))
    (accuracy,) = figures.accuracy
    expected = wilson_interval(15, 20)
    assert (accuracy.random.value, accuracy.random.low, accuracy.random.n) == (0.75, expected.low, 20)
    assert (accuracy.telling, accuracy.telling_right) == (21, 0)
    assert describe_version_accuracy(accuracy) == (
        "m@1 matches the raters' label on 75% (53 to 89%) of 20 texts sampled at random, and on 0 of 21 "
        "selected because they are hard: not used for figures about all requests."
    )
    assert figures.counts == [("b", 25), ("a", 15), (None, 1)]


def test_without_a_random_text_nothing_is_judged() -> None:
    figures = compute_label_statistics([task(0, "a")], [ServedLabel(0, "m@1", "a", random=False)], {})
    assert math.isnan(figures.accuracy[0].random.value)
    assert "can't be judged" in describe_version_accuracy(figures.accuracy[0])


def test_a_request_that_came_often_counts_as_often() -> None:
    tasks = [task(n, "a" if n % 2 else "b") for n in range(30)]
    served = [ServedLabel(n, "m@1", "a", True, times=3 if n % 2 else 1) for n in range(30)]
    (accuracy,) = compute_label_statistics(tasks, served, drawn_of(tasks)).accuracy
    assert accuracy.random.value == pytest.approx(0.75)
    assert accuracy.random.low is not None
    assert accuracy.random.low < 0.75 < (accuracy.random.high or 0)


@pytest.mark.parametrize("right", [True, False])
def test_a_share_of_none_or_all_has_room_beside_it_where_texts_came_again(right: bool) -> None:
    tasks = [task(n, "a") for n in range(30)]
    served = [ServedLabel(n, "m@1", "a" if right else "b", True, times=1 + (n < 2)) for n in range(30)]
    (accuracy,) = compute_label_statistics(tasks, served, drawn_of(tasks)).accuracy
    expected = wilson_interval(28 * right, 28)  # 32 squared by 28 + 2 * 4, and no more than say as much
    assert (accuracy.random.low, accuracy.random.high) == (expected.low, expected.high)
    assert (accuracy.random.value, accuracy.random.n) == (float(right), 30)


def test_two_answers_to_one_text_are_one_text() -> None:
    tasks = [task(n, "a") for n in range(30)]
    served = [ServedLabel(n, "m@1", label, True) for n in range(30) for label in ("a", "b")]
    (accuracy,) = compute_label_statistics(tasks, served, drawn_of(tasks)).accuracy
    assert (accuracy.random.value, accuracy.random.n) == (0.5, 30)


def test_labels_are_held_against_each_other_without_the_space_around_them() -> None:
    round = row_of(Round, config={"requests": {"endpoint": "e"}}, systems=[])
    asked = [row_of(RoundRequest, item_id=n, version="m@1", label="card\n", random=True) for n in range(9)]
    tasks = [task(n, "card") for n in range(9)]
    (accuracy,) = compute_label_statistics(
        tasks, list_served_labels(round, [], asked), drawn_of(tasks)
    ).accuracy
    assert accuracy.random.value == 1


def test_a_label_that_reads_like_no_label_is_another_one() -> None:
    tasks = [task(n, "none of the labels", person) for n in range(20) for person in ("ada", "bob")]
    tasks += [
        task(n, None if person == "ada" else "x", person) for n in range(20, 40) for person in ("ada", "bob")
    ]
    tasks += [task(40, None)]
    figures = compute_label_statistics(tasks, [], drawn_of(tasks))
    assert figures.counts == [("none of the labels", 20), (None, 1)]
    names = [each.answer["label"] or "-" for each in tasks]
    expected = compute_alpha(names, [each.item_id for each in tasks]).interval.value
    assert figures.alpha.interval.value == pytest.approx(expected)


def test_ties_have_no_label_and_repeats_tell_of_their_rater() -> None:
    tasks = [
        *(task(n, "a") for n in range(4)),
        *(task(n, "b" if n == 0 else "a", "cleo") for n in range(4)),
        task(1, "b", "cleo", task_id="again", purpose="repeat", repeat_of="cleo-1"),
        task(2, "a", "cleo", task_id="more", purpose="repeat", repeat_of="cleo-2"),
        task(3, "b", "dan"),
        task(4, None, "dan", answer={"skipped": True, "reason": ""}),
        task(5, None, "dan", answer=None),
    ]
    figures = compute_label_statistics(tasks, [], drawn_of(tasks), left_out={"dan"})
    assert figures.disputed == [0]
    assert dict(figures.majority) == {1: "a", 2: "a", 3: "a"}
    assert (figures.same_again.value, figures.same_again.n) == (0.5, 2)
    assert (figures.ratings, figures.skipped) == (8, 0)
    assert compute_label_statistics(tasks, [], drawn_of(tasks)).skipped == 1
    assert summarize_labels(compute_label_statistics([], [], {})).verdict[0].startswith("No ratings to count")


def test_a_text_on_which_people_part_widens_the_figure_of_a_version() -> None:
    """Settled ones are all right: the disputed one may be wrong, and isn't left out."""
    tasks = [task(item, "a", person) for item in range(9) for person in ("bob", "cleo")]
    tasks += [task(9, "a", "bob"), task(9, "b", "cleo")]
    served = [ServedLabel(item, "m@1", "a", True) for item in range(10)]
    (judged,) = compute_label_statistics(tasks, served, {}).accuracy
    assert (judged.unsettled, judged.random.n) == (1, 10)
    assert judged.random.value == pytest.approx(0.95)
    assert judged.random.low == pytest.approx(wilson_interval(9, 10).low)
    assert judged.random.high == pytest.approx(1.0)


def test_nominal_alpha_of_many_labels_is_that_of_its_definition() -> None:
    random = np.random.default_rng(0)
    item, labels = np.repeat(np.arange(300), 2), random.integers(0, 200, 600)
    labels[1::2] = np.where(random.random(300) < 0.6, labels[::2], labels[1::2])
    observed = float(np.mean(labels[::2] != labels[1::2]))
    shares = np.bincount(labels) / 600
    expected = (1 - float(np.square(shares).sum())) * 600 / 599
    agreement = compute_alpha([f"label {value}" for value in labels], item).interval
    assert agreement.value == pytest.approx(1 - observed / expected, abs=1e-9)
    assert agreement.low is not None
    assert 0.5 < agreement.low < agreement.value < (agreement.high or 0) < 0.7


def test_agreement_is_of_first_labels_on_texts_whose_chance_is_known() -> None:
    tasks = [task(n, "ab"[n % 2], person) for n in range(40) for person in ("ada", "bob")]
    tasks[1::20] = [replace(each, answer={"label": "c", "note": ""}) for each in tasks[1::20]]
    plain = compute_label_statistics(tasks, [], drawn_of(tasks)).alpha
    third = [task(n, "c", "cleo", purpose="adjudication") for n in (0, 10)]
    hard = [task(n, label, person) for n in range(40, 60) for person, label in (("ada", "a"), ("bob", "b"))]
    round = row_of(Round, config={"requests": {"endpoint": "e"}})
    asked = [row_of(RoundRequest, item_id=n, random=n < 40) for n in range(60)]
    items = [row_of(RoundItem, item_id=n, weight=2.0) for n in range(60)]
    weights = compute_sampling_weights(round, items, asked)
    assert compute_label_statistics([*tasks, *third, *hard], [], weights).alpha.interval == plain.interval
    none = compute_label_statistics(hard, [], weights).alpha.interval
    assert (none.low, none.n) == (None, 0)
    assert "all texts were selected as the most informative" in none.why
