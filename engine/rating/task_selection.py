"""What a rater is given next, as a pure function of what was given so far, and which check items are
among it.

First come the units (a pair of answers, all, or one) that everybody rates, then, of the models that the
rater has had least often, the unit with the fewest ratings; sides are balanced and kept. Repeats and
check items don't show that they are such.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from engine.rating.analysis.rater_checks import has_passed_qualification
from store.core.rating_schemas import AssignedTask, CheckKind, Purpose, RatingProtocol, RoundItem
from store.rating.config import RoundConfig

# What a rater is given next, as a pure function of what was dealt so far.
#
# What is rated is a unit: a pair of answers to one prompt, all answers to it, or one answer. First come the
# units that everybody rates, so that agreement can be told early; then, of the models that the rater has
# had least often, the unit with the fewest ratings. Sides are balanced for each rater and pair, and kept.
# Every so often a unit that the rater has had comes again with its sides swapped, or one whose right answer
# is known; neither shows that it is one.

REPEAT_AFTER = 6  # tasks at least between a pair and its repeat
MIN_CALIBRATION = 5  # prompts that everybody rates, where it is half of the round at most


class Unit(NamedTuple):
    """What is rated: a prompt, and the answers of these models (places in the round's list, rising)."""

    item_id: int
    systems: tuple[int, ...]


class RatedTask(NamedTuple):
    """A task that the rater has rated, and which may come again."""

    task_id: str
    unit: Unit
    order: tuple[int, ...]  # the systems as the rater saw them


class NewTask(NamedTuple):
    """A task to be dealt."""

    unit: Unit
    order: tuple[int, ...]
    purpose: Purpose
    repeat_of: str | None = None


class CheckUnits(NamedTuple):
    """Items of a kind by which raters are checked."""

    units: Sequence[Unit]
    share: float  # of all tasks


@dataclass(frozen=True)
class SelectionState:
    """What the dealer sees, of one rater.

    calibration: what everybody rates and the rater has not had, in its order. wanting: what needs ratings and
    the rater has not had, the least rated first; disputed: what is settled by one more, likewise. had: of the
    rater's tasks, how often which models came, with which of them first. dealt: how many of each purpose.
    repeatable: what may come again, none of it lately. checks: by kind, those that the rater has not had, and
    the share of tasks that are such.
    """

    calibration: Sequence[Unit] = ()
    wanting: Sequence[Unit] = ()
    disputed: Sequence[Unit] = ()
    had: Mapping[tuple[tuple[int, ...], int], int] = field(default_factory=dict)
    dealt: Mapping[Purpose, int] = field(default_factory=dict)
    repeatable: Sequence[RatedTask] = ()
    repeat_share: float = 0.0
    checks: Mapping[CheckKind, CheckUnits] = field(default_factory=dict)


def list_model_groups(systems: int, protocol: RatingProtocol) -> list[tuple[int, ...]]:
    """The models of each unit of a prompt, in a round of so many."""
    if protocol in ("rank", "label"):
        return [tuple(range(systems))]
    if protocol == "pairwise":
        return list(itertools.combinations(range(systems), 2))
    return [(system,) for system in range(systems)]


def compute_calibration_size(prompts: int, share: float) -> int:
    """How many prompts of a round everybody rates."""
    if not share:
        return 0
    return min(max(MIN_CALIBRATION, math.ceil(prompts * share)), prompts // 2)


def select_tasks(table: SelectionState, most: int, random: Random) -> list[NewTask]:
    """At most so many new tasks, in the order in which the rater gets them."""
    sides = _AnswerOrder(table.had, random)
    fresh = _NewUnits(table)
    checks = _CheckQueue(table)
    repeatable = list(table.repeatable)
    purposes = Counter(table.dealt)
    first = purposes.total()
    tasks: list[NewTask] = []
    for place in range(first, first + most):
        if purposes["repeat"] < int((place + 1) * table.repeat_share) and repeatable:
            earlier = repeatable.pop(random.randrange(len(repeatable)))
            task = NewTask(earlier.unit, earlier.order[::-1], "repeat", earlier.task_id)
        elif chosen := checks.next(place, purposes) or fresh.next():
            unit, purpose = chosen  # an attention item names the side to choose
            task = NewTask(
                unit, unit.systems if purpose == "attention" else sides.next(unit.systems), purpose
            )
        else:
            break
        tasks.append(task)
        purposes[task.purpose] += 1
    return tasks


def count_repeats(count: int, repeat_share: float) -> int:
    """How many come again, at most, to a rater who is given so many units, by the end of them."""
    most = count if count >= REPEAT_AFTER else 0  # else none lies far enough back
    repeats = 0
    while repeats < min(int((count + repeats + 1) * repeat_share), most):
        repeats += 1
    return repeats


class _CheckQueue:
    """Items by which the rater is checked, in among the others, none of them first."""

    def __init__(self, table: SelectionState) -> None:
        self._left = {kind: (list(checks.units), checks.share) for kind, checks in table.checks.items()}

    def next(self, place: int, purposes: Mapping[Purpose, int]) -> tuple[Unit, Purpose] | None:
        """One of a kind that is due; None where none is."""
        for kind, (units, share) in self._left.items():
            if units and purposes[kind] < int(place * share):
                return units.pop(0), kind
        return None


class _NewUnits:
    """Units that the rater has not had: everybody's, then those that need ratings, then the disputed."""

    def __init__(self, table: SelectionState) -> None:
        self._calibration, self._disputed = iter(table.calibration), iter(table.disputed)
        self._wanting: dict[tuple[int, ...], list[Unit]] = {}
        for unit in reversed(table.wanting):
            if unit not in table.calibration:
                self._wanting.setdefault(unit.systems, []).append(unit)
        places = {unit: place for place, unit in enumerate(table.wanting)}
        self._places = places
        self._had = Counter[tuple[int, ...]]()
        for (systems, _), count in table.had.items():
            self._had[systems] += count

    def next(self) -> tuple[Unit, Purpose] | None:
        """None where there is nothing for this rater."""
        if unit := next(self._calibration, None):
            self._had[unit.systems] += 1
            return unit, "first"
        if self._wanting:
            systems = min(
                self._wanting, key=lambda each: (self._had[each], self._places[self._wanting[each][-1]])
            )
            unit = self._wanting[systems].pop()
            if not self._wanting[systems]:
                del self._wanting[systems]
            self._had[systems] += 1
            return unit, "first"
        unit = next(self._disputed, None)
        return (unit, "adjudication") if unit else None


class _AnswerOrder:
    """The order in which answers are seen: each is first about as often, for this rater and these models."""

    def __init__(self, had: Mapping[tuple[tuple[int, ...], int], int], random: Random) -> None:
        self._random = random
        self._first = Counter(had)

    def next(self, systems: tuple[int, ...]) -> tuple[int, ...]:
        fewest = min(self._first[systems, system] for system in systems)
        first = self._random.choice([system for system in systems if self._first[systems, system] == fewest])
        self._first[systems, first] += 1
        rest = [system for system in systems if system != first]
        self._random.shuffle(rest)
        return (first, *rest)


# The items of a round by which raters are checked: how they are dealt, and who passed the qualification.
#
# A rater must not know them by how they look, so they hold as many answers as the round's own items. A gold
# item is shown as any other, its sides drawn; an attention item names the side to choose in its prompt, so
# that it is shown in its own order.


def build_check_unit(item_id: int, systems: int, protocol: RatingProtocol) -> Unit:
    """What is rated of a check item in a round of so many models: a pair, all answers, or one."""
    if protocol == "pairwise":
        return Unit(item_id, (0, 1))
    return Unit(item_id, tuple(range(systems)) if protocol in ("rank", "label") else (0,))


def has_qualified(
    config: RoundConfig, tasks: Sequence[AssignedTask], items: Iterable[RoundItem], *, let_in: bool = False
) -> bool | None:
    """Whether a rater may rate the round, by their tasks; None until every qualification item is answered.
    let_in: whoever leads the round let the rater in."""
    if let_in:
        return True
    return has_passed_qualification(tasks, items, config.qualification_pass, config.gold_tolerance)
