"""What a rater is given next, as a pure function of what was dealt so far.

What is rated is a unit: a pair of answers to one prompt, all answers to it, or one answer. The next unit is
the one that tells most: with the fewest ratings, then of the two models that can least be told apart. Sides
are balanced for each rater and pair, and kept. Every so often a unit that the rater has had comes again with
its sides swapped, or one whose better answer is known; neither shows that it is one.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from store.documents.rating.rating_desk import RatingProtocol
from store.documents.rating.round import Purpose

REPEAT_AFTER = 6  # tasks at least between a pair and its repeat


class Unit(NamedTuple):
    """What is rated: a prompt, and the answers of these models (places in the round's list, rising)."""

    item_id: int
    systems: tuple[int, ...]


@dataclass(frozen=True)
class DealtUnit:
    """A task that this rater has, in the order of dealing."""

    task_id: str
    unit: Unit
    order: tuple[int, ...]  # the systems as the rater sees them
    purpose: Purpose
    repeat_of: str | None = None


class NewTask(NamedTuple):
    """A task to be dealt."""

    unit: Unit
    order: tuple[int, ...]
    purpose: Purpose
    repeat_of: str | None = None


@dataclass(frozen=True)
class Table:
    """What the dealer sees. taken: how often each unit was rated, or lies with a rater who may still do so;
    disputed: units whose ratings are all there and differ; uncertainty: of two models, higher where they can
    less be told apart.
    """

    units: Sequence[Unit]
    taken: Mapping[Unit, int]
    own: Sequence[DealtUnit]
    overlap: int
    repeat_share: float = 0.0
    gold: Sequence[Unit] = ()
    gold_share: float = 0.0
    disputed: frozenset[Unit] = frozenset()
    uncertainty: Mapping[tuple[int, ...], float] = field(default_factory=dict)


def units(item_ids: Iterable[int], systems: int, protocol: RatingProtocol) -> list[Unit]:
    """All that can be rated in a round of so many models."""
    if protocol in ("rank", "label"):
        groups = [tuple(range(systems))]
    elif protocol == "pairwise":
        groups = list(itertools.combinations(range(systems), 2))
    else:
        groups = [(system,) for system in range(systems)]
    return [Unit(item_id, group) for item_id in item_ids for group in groups]


def deal(table: Table, most: int, random: Random) -> list[NewTask]:
    """At most so many new tasks, in the order in which the rater gets them."""
    sides = _Sides(table.own, random)
    had = {task.unit for task in table.own}
    fresh = iter(_fresh(table, had, random))
    gold = iter([unit for unit in table.gold if unit not in had])
    repeats = _Repeats(table.own, random)
    purposes = Counter(task.purpose for task in table.own)
    tasks: list[NewTask] = []
    for place in itertools.count(len(table.own)):
        if len(tasks) >= most:
            break
        task = None
        if purposes["repeat"] < int((place + 1) * table.repeat_share):
            task = repeats.next(place)
        elif purposes["gold"] < int(place * table.gold_share) and (unit := next(gold, None)):
            task = NewTask(unit, sides.next(unit.systems), "gold")
        if task is None:
            chosen = next(fresh, None)
            if chosen is None:
                break
            task = NewTask(chosen[0], sides.next(chosen[0].systems), chosen[1])
        tasks.append(task)
        purposes[task.purpose] += 1
    return tasks


def repeats_of(count: int, repeat_share: float) -> int:
    """How many come again, at most, to a rater who is given so many units, by the end of them."""
    most = count if count >= REPEAT_AFTER else 0  # else none lies far enough back
    repeats = 0
    while repeats < min(int((count + repeats + 1) * repeat_share), most):
        repeats += 1
    return repeats


def _fresh(table: Table, had: set[Unit], random: Random) -> list[tuple[Unit, Purpose]]:
    """Units that the rater has not had and that need ratings, the most telling first; then the disputed."""
    taken = table.taken
    open_units = [unit for unit in table.units if unit not in had and taken.get(unit, 0) < table.overlap]
    chance = {unit: random.random() for unit in open_units}
    open_units.sort(
        key=lambda unit: (
            taken.get(unit, 0),
            -table.uncertainty.get(unit.systems, 0.0),
            chance[unit],
        )
    )
    ordered: list[tuple[Unit, Purpose]] = [(unit, "first") for unit in open_units]
    return ordered + [(unit, "adjudication") for unit in table.units if unit in table.disputed - had]


class _Sides:
    """The order in which answers are seen: each is first about as often, for this rater and these models."""

    def __init__(self, own: Sequence[DealtUnit], random: Random) -> None:
        self._random = random
        self._first = Counter((task.unit.systems, task.order[0]) for task in own)

    def next(self, systems: tuple[int, ...]) -> tuple[int, ...]:
        fewest = min(self._first[systems, system] for system in systems)
        first = self._random.choice([system for system in systems if self._first[systems, system] == fewest])
        self._first[systems, first] += 1
        rest = [system for system in systems if system != first]
        self._random.shuffle(rest)
        return (first, *rest)


class _Repeats:
    """Earlier tasks of the rater, each once more with the order turned round."""

    def __init__(self, own: Sequence[DealtUnit], random: Random) -> None:
        repeated = {task.repeat_of for task in own}
        self._own = [
            (place, task)
            for place, task in enumerate(own)
            if task.purpose == "first" and task.task_id not in repeated
        ]
        self._random = random

    def next(self, place: int) -> NewTask | None:
        earlier = [entry for entry in self._own if entry[0] <= place - REPEAT_AFTER]
        if not earlier:
            return None
        entry = self._random.choice(earlier)
        self._own.remove(entry)
        task = entry[1]
        return NewTask(task.unit, task.order[::-1], "repeat", task.task_id)
