"""What raters are given next."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from engine.rating.task_selection import (
    CheckUnits,
    NewTask,
    RatedTask,
    SelectionState,
    Unit,
    compute_calibration_size,
    count_repeats,
    list_model_groups,
    select_tasks,
)

PAIRS = [(0, 1), (0, 2), (1, 2)]


def every(items: int, pairs: list[tuple[int, ...]] = PAIRS) -> list[Unit]:
    return [Unit(item, pair) for item in range(items) for pair in pairs]


def test_units_are_pairs_lists_or_single_answers() -> None:
    assert list_model_groups(3, "pairwise") == PAIRS
    assert list_model_groups(3, "rank") == list_model_groups(3, "label") == [(0, 1, 2)]
    assert list_model_groups(2, "correction") == [(0,), (1,)]


@pytest.mark.parametrize(
    ("prompts", "share", "size"),
    [(100, 0.1, 10), (20, 0.1, 5), (12, 0.1, 5), (8, 0.1, 4), (1, 0.1, 0), (100, 0.0, 0), (11, 1.0, 5)],
)
def test_everybody_rates_a_share_of_five_at_least_where_that_is_half_at_most(
    prompts: int, share: float, size: int
) -> None:
    assert compute_calibration_size(prompts, share) == size


@pytest.mark.parametrize("batch", [1, 4, 54])
def test_a_rater_gets_the_pairs_of_models_evenly(batch: int) -> None:
    had, left = Counter[tuple[tuple[int, ...], int]](), every(40)
    for place in range(0, 54, batch):
        table = SelectionState(wanting=left, had=had, dealt={"first": place})
        for task in select_tasks(table, min(batch, 54 - place), Random(place)):
            had[task.unit.systems, task.order[0]] += 1
            left.remove(task.unit)
    by_pair = Counter[tuple[int, ...]]()
    for (systems, _), count in had.items():
        by_pair[systems] += count
    assert by_pair == dict.fromkeys(PAIRS, 18)
    assert all(abs(had[pair, pair[0]] - had[pair, pair[1]]) <= 1 for pair in PAIRS)  # and their sides


def test_the_pairs_are_as_even_as_what_is_left_allows() -> None:
    few = [Unit(0, (0, 1)), *(Unit(item, pair) for item in range(20) for pair in PAIRS[1:])]
    by_pair = Counter(task.unit.systems for task in select_tasks(SelectionState(wanting=few), 21, Random(0)))
    assert by_pair == {(0, 1): 1, (0, 2): 10, (1, 2): 10}


def test_of_a_pair_the_least_rated_comes_first() -> None:
    ordered = every(9)
    tasks = select_tasks(SelectionState(wanting=ordered), 12, Random(0))
    assert {task.unit.item_id for task in tasks} == {0, 1, 2, 3}


def test_what_everybody_rates_comes_before_all_else_and_counts_towards_the_balance() -> None:
    everybodys = [Unit(7, (1, 2)), Unit(3, (1, 2))]
    tasks = select_tasks(
        SelectionState(calibration=everybodys, wanting=[*everybodys, *every(3)]), 8, Random(0)
    )
    assert [task.unit for task in tasks[:2]] == everybodys
    assert len({task.unit for task in tasks}) == 8
    assert sorted(Counter(task.unit.systems for task in tasks).values()) == [2, 3, 3]


def test_one_in_ten_comes_again_with_its_sides_swapped() -> None:
    rated = [RatedTask(f"t{n}", Unit(n, (0, 1)), (1, 0)) for n in range(4)]
    table = SelectionState(wanting=every(9)[:9], dealt={"first": 9}, repeatable=rated, repeat_share=0.1)
    first, *others = select_tasks(table, 5, Random(0))
    assert (first.purpose, first.order, first.unit.item_id) == (
        "repeat",
        (0, 1),
        int(str(first.repeat_of)[1:]),
    )
    assert {task.purpose for task in others} == {"first"}
    nothing = SelectionState(wanting=every(2), dealt={"first": 9}, repeat_share=0.1)
    assert [task.purpose for task in select_tasks(nothing, 2, Random(0))] == ["first"] * 2


@pytest.mark.parametrize(("count", "share", "again"), [(5, 0.5, 0), (9, 0.1, 1), (12, 0.1, 1), (50, 0.1, 5)])
def test_a_rater_of_everything_is_told_how_many_come_again(count: int, share: float, again: int) -> None:
    assert count_repeats(count, share) == again


def test_checks_come_among_the_others_and_each_once() -> None:
    gold, attention = [Unit(100, (0, 1)), Unit(101, (0, 1))], [Unit(200, (0, 1))]
    checks = {"gold": CheckUnits(gold, 0.1), "attention": CheckUnits(attention, 0.05)}
    tasks = select_tasks(SelectionState(wanting=every(50), checks=checks), 40, Random(0))
    assert [task.unit for task in tasks if task.purpose == "gold"] == gold
    assert [task.order for task in tasks if task.purpose == "attention"] == [(0, 1)]  # it names a side
    assert tasks[0].purpose == "first"
    assert len(tasks) == 40


def test_a_disputed_unit_comes_after_all_others() -> None:
    disputed = [Unit(9, (0, 1))]
    tasks = select_tasks(SelectionState(wanting=[Unit(1, (0, 1))], disputed=disputed), 9, Random(0))
    assert [(task.unit.item_id, task.purpose) for task in tasks] == [(1, "first"), (9, "adjudication")]


def test_sides_of_a_rater_are_drawn() -> None:
    orders = {tuple(task.order for task in _eight(seed)) for seed in range(5)}
    assert len(orders) > 1


def _eight(seed: int) -> list[NewTask]:
    return select_tasks(SelectionState(wanting=every(8, [(0, 1)])), 8, Random(seed))
