"""What raters are given next."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from engine.rounds.dealing import DealtUnit, NewTask, Table, Unit, deal, repeats_of, units


def dealt(tasks: list[NewTask]) -> list[DealtUnit]:
    return [
        DealtUnit(f"t{place}", task.unit, task.order, task.purpose, task.repeat_of)
        for place, task in enumerate(tasks)
    ]


def test_units_are_pairs_lists_or_single_answers() -> None:
    assert units([7], 3, "pairwise") == [Unit(7, (0, 1)), Unit(7, (0, 2)), Unit(7, (1, 2))]
    assert units([7], 3, "rank") == [Unit(7, (0, 1, 2))]
    assert units([7, 8], 1, "correction") == [Unit(7, (0,)), Unit(8, (0,))]


def test_nobody_gets_a_unit_twice_and_overlap_is_kept() -> None:
    every = units(range(10), 2, "pairwise")
    taken: Counter[Unit] = Counter()
    for rater in range(4):
        table = Table(every, taken, [], overlap=2)
        tasks = deal(table, 10, Random(rater))
        assert len({task.unit for task in tasks}) == len(tasks)
        taken.update(task.unit for task in tasks)
    assert set(taken.values()) == {2}
    assert deal(Table(every, taken, [], overlap=2), 5, Random(9)) == []


def test_units_with_the_fewest_ratings_come_first_then_the_uncertain_pairs() -> None:
    every = units(range(4), 3, "pairwise")
    taken = {unit: 1 for unit in every if unit.item_id < 2}
    uncertainty = {(0, 1): 0.01, (0, 2): 0.2, (1, 2): 0.05}
    tasks = deal(Table(every, taken, [], overlap=2, uncertainty=uncertainty), 12, Random(0))
    assert [task.unit.item_id >= 2 for task in tasks] == [True] * 6 + [False] * 6
    assert [task.unit.systems for task in tasks[:6]] == [(0, 2)] * 2 + [(1, 2)] * 2 + [(0, 1)] * 2


@pytest.mark.parametrize("systems", [2, 3])
def test_sides_are_balanced_for_each_pair(systems: int) -> None:
    tasks = deal(Table(units(range(20), systems, "pairwise"), {}, [], overlap=1), 100, Random(1))
    first = Counter((task.unit.systems, task.order[0]) for task in tasks)
    assert set(first.values()) == {10}
    own = dealt(tasks[:7])  # and over several deals
    rest = Table(units(range(20), systems, "pairwise"), {}, own, overlap=1)
    first = Counter((task.unit.systems, task.order[0]) for task in [*tasks[:7], *deal(rest, 100, Random(2))])
    for pair in {task.unit.systems for task in tasks}:
        assert abs(first[pair, pair[0]] - first[pair, pair[1]]) <= 1


def test_one_in_ten_comes_again_with_its_sides_swapped() -> None:
    own: list[DealtUnit] = []
    for batch in range(10):
        table = Table(units(range(90), 2, "pairwise"), {}, own, overlap=1, repeat_share=0.1)
        own = dealt(
            [NewTask(t.unit, t.order, t.purpose, t.repeat_of) for t in own] + deal(table, 10, Random(batch))
        )
    by_id = {task.task_id: (place, task) for place, task in enumerate(own)}
    repeats = [(place, task) for place, task in enumerate(own) if task.purpose == "repeat"]
    assert len(own) == 100
    assert len(repeats) == 10
    for place, task in repeats:
        earlier, original = by_id[str(task.repeat_of)]
        assert place - earlier >= 6
        assert task.order == original.order[::-1]
    assert len({task.repeat_of for _, task in repeats}) == 10


@pytest.mark.parametrize("share", [0.0, 0.05, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("batch", [1, 20])
def test_a_rater_of_everything_is_told_how_many_come_again(share: float, batch: int) -> None:
    for count in (0, 1, 5, 6, 7, 8, 9, 12, 17, 20, 33, 50):
        own: list[DealtUnit] = []
        while True:
            table = Table(units(range(count), 2, "pairwise"), {}, own, overlap=1, repeat_share=share)
            new = deal(table, batch, Random(count))
            if not new:
                break
            own = dealt([NewTask(t.unit, t.order, t.purpose, t.repeat_of) for t in own] + new)
        most = count + repeats_of(count, share)
        assert len(own) <= most
        assert len(own) == most or share == 0.5, count  # of so many some lie too near


def test_gold_comes_among_the_others_and_each_once() -> None:
    gold = [Unit(100, (0, 1)), Unit(101, (0, 1))]
    table = Table(units(range(50), 2, "pairwise"), {}, [], overlap=1, gold=gold, gold_share=0.1)
    tasks = deal(table, 40, Random(0))
    places = [place for place, task in enumerate(tasks) if task.purpose == "gold"]
    assert [tasks[place].unit for place in places] == gold
    assert places[0] > 0
    assert len(tasks) == 40


def test_a_disputed_unit_goes_to_one_who_has_not_had_it_after_all_others() -> None:
    every = units(range(3), 2, "pairwise")
    taken = {every[0]: 2, every[1]: 2}
    table = Table(every, taken, [], overlap=2, disputed=frozenset({every[0]}))
    assert [(task.unit, task.purpose) for task in deal(table, 9, Random(0))] == [
        (every[2], "first"),
        (every[0], "adjudication"),
    ]
    own = [DealtUnit("t", every[0], (0, 1), "first")]
    had = Table(every, taken, own, overlap=2, disputed=frozenset({every[0]}))
    assert [task.unit for task in deal(had, 9, Random(0))] == [every[2]]


def test_which_unit_comes_next_is_chance() -> None:
    orders = {
        tuple(
            task.unit.item_id for task in deal(Table(units(range(9), 2, "rank"), {}, [], 1), 9, Random(seed))
        )
        for seed in range(5)
    }
    assert len(orders) == 5
