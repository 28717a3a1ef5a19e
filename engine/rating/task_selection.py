"""Select a rater's next tasks, including check items, as a pure function of earlier tasks.

A unit is a pair of answers to one prompt, all answers to it, or one answer. First come the units that
everybody rates, so that agreement can be estimated early; then, for the models that the rater has had
least often, the unit with the fewest ratings. Sides are balanced for each rater and pair, and stored. Some
units come again with swapped sides, or have a known answer; raters can't tell them apart.
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

REPEAT_AFTER = 6  # minimum distance in tasks between a pair and its repeat
MIN_CALIBRATION = 5  # minimum number of calibration prompts, up to half of the round


class Unit(NamedTuple):
    """Unit of rating: a prompt and the answers of these models (indices into the round's models,
    ascending).
    """

    item_id: int
    systems: tuple[int, ...]


class RatedTask(NamedTuple):
    """Task that the rater has rated and that can be repeated."""

    task_id: str
    unit: Unit
    order: tuple[int, ...]  # systems in the order shown to the rater


class NewTask(NamedTuple):
    """Task to be assigned."""

    unit: Unit
    order: tuple[int, ...]
    purpose: Purpose
    repeat_of: str | None = None


class CheckUnits(NamedTuple):
    """Check items of one kind."""

    units: Sequence[Unit]
    share: float  # of all tasks


@dataclass(frozen=True)
class SelectionState:
    """Inputs of the task selection for one rater.

    calibration: units that everybody rates and the rater hasn't had, in order. wanting: units that need
    ratings and the rater hasn't had, least rated first. disputed: units that one more rating would settle,
    likewise. had: counts of the rater's tasks by models and the first model shown. dealt: counts by
    purpose. repeatable: tasks that can be repeated, none of them recent. checks: check items by kind that
    the rater hasn't had, and their share of tasks.
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
    """Return the models of each unit of a prompt, for a round of this many systems."""
    if protocol in ("rank", "label"):
        return [tuple(range(systems))]
    if protocol == "pairwise":
        return list(itertools.combinations(range(systems), 2))
    return [(system,) for system in range(systems)]


def compute_calibration_size(prompts: int, share: float) -> int:
    """Return how many prompts of a round everybody rates."""
    if not share:
        return 0
    return min(max(MIN_CALIBRATION, math.ceil(prompts * share)), prompts // 2)


def select_tasks(table: SelectionState, most: int, random: Random) -> list[NewTask]:
    """Return at most `most` new tasks, in the order in which the rater gets them."""
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
            unit, purpose = chosen  # an attention item names the side to choose, so its order is fixed
            task = NewTask(
                unit, unit.systems if purpose == "attention" else sides.next(unit.systems), purpose
            )
        else:
            break
        tasks.append(task)
        purposes[task.purpose] += 1
    return tasks


def count_repeats(count: int, repeat_share: float) -> int:
    """Return the maximum number of repeats for a rater who gets `count` units."""
    most = count if count >= REPEAT_AFTER else 0  # fewer units leave none old enough
    repeats = 0
    while repeats < min(int((count + repeats + 1) * repeat_share), most):
        repeats += 1
    return repeats


class _CheckQueue:
    """Check items mixed in among other tasks, never first."""

    def __init__(self, table: SelectionState) -> None:
        self._left = {kind: (list(checks.units), checks.share) for kind, checks in table.checks.items()}

    def next(self, place: int, purposes: Mapping[Purpose, int]) -> tuple[Unit, Purpose] | None:
        """Return an item of a kind that is due, or None."""
        for kind, (units, share) in self._left.items():
            if units and purposes[kind] < int(place * share):
                return units.pop(0), kind
        return None


class _NewUnits:
    """Units that the rater hasn't had: calibration, then those that need ratings, then disputed ones."""

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
        """Return the next unit and its purpose, or None if nothing is left for this rater."""
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
    """Order in which answers are shown, so that each is first about equally often for this rater and these
    models.
    """

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


# Check items must not be recognizable, so they have as many answers as the round's own items. A gold item is
# shown like any other, with random sides; an attention item names the side to choose in its prompt, so it is
# shown in its own order.


def build_check_unit(item_id: int, systems: int, protocol: RatingProtocol) -> Unit:
    """Return the unit of a check item: a pair, all answers, or one answer."""
    if protocol == "pairwise":
        return Unit(item_id, (0, 1))
    return Unit(item_id, tuple(range(systems)) if protocol in ("rank", "label") else (0,))


def has_qualified(
    config: RoundConfig, tasks: Sequence[AssignedTask], items: Iterable[RoundItem], *, let_in: bool = False
) -> bool | None:
    """Return whether a rater passed the qualification, by their tasks; None until every item is answered.

    `let_in` means that the round's manager admitted the rater.
    """
    if let_in:
        return True
    return has_passed_qualification(tasks, items, config.qualification_pass, config.gold_tolerance)
