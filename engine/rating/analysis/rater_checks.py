"""Grade raters on check items, and decide whose ratings are excluded from training rows.

Correctness depends on the protocol: the same answer, order, set or overlapping spans, or a score within
the tolerance. A rater is flagged if the exact 95% interval of the share of right answers, from MIN_CHECKS
items or more, lies below the pass mark, or if the rater is too fast. Pure functions.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import special

from engine.evaluation.statistics.intervals import Interval
from engine.rating.analysis.rater_reliability import is_too_fast
from engine.rating.analysis.round_ratings import assign_rater_names, make_distinct_names
from store.core.rating_schemas import (
    CHECKS,
    COUNTING,
    GOLD_PASS,
    GOLD_TOLERANCE,
    AssignedTask,
    CheckKind,
    ExcludedRatings,
    RatingAnswer,
    RatingCounts,
    Round,
    RoundItem,
    TextSpan,
)

# A check item is one whose answer is known or stated in its prompt. Expected answers use the item's order of
# answers, given answers the order shown to the rater. Right is, for pairs, labels and pass or fail, the same
# answer; for ranks, the same order of all answers expected to differ; for a rubric, a score within the
# tolerance on each expected criterion; for a corrected text or free text, that it contains the expected text,
# ignoring case and white space; for several labels, the same set; for spans, the same number, each
# overlapping one of the same label.

ROUNDING = 1e-9  # 0.7 of 10 items is 7, not 7.000000000000001


def is_right(task: AssignedTask, expected: RatingAnswer, tolerance: int = GOLD_TOLERANCE) -> bool | None:
    """Return whether the task's rating matches `expected`; None if it is missing or skipped."""
    given: Mapping[str, Any] = task.answer or {"skipped": True}
    wanted: Mapping[str, Any] = expected
    if "skipped" in given:
        return None
    if "choice" in wanted:
        choice = given.get("choice")
        side = {"A": task.systems[0], "B": task.systems[-1]}.get(str(choice))
        return bool((choice if side is None else "AB"[side]) == wanted["choice"])
    if "ranks" in wanted:
        by_place = dict(zip(task.systems, given.get("ranks", ()), strict=True))
        return _are_same_order([by_place[place] for place in sorted(by_place)], wanted["ranks"])
    if "scores" in wanted:
        scores = given.get("scores", {})
        return all(
            name in scores and abs(scores[name] - score) <= tolerance
            for name, score in wanted["scores"].items()
        )
    for field in ("text", "written"):
        if field in wanted:
            return _normalize_text(wanted[field]) in _normalize_text(str(given.get(field, "")))
    if "labels" in wanted:
        return set(given.get("labels", ())) == set(wanted["labels"])
    if "spans" in wanted:
        return _are_same_spans(given.get("spans", ()), wanted["spans"])
    field = "passed" if "passed" in wanted else "label"
    return bool(given.get(field) == wanted[field])


def has_passed_qualification(
    tasks: Iterable[AssignedTask], items: Iterable[RoundItem], mark: float, tolerance: int = GOLD_TOLERANCE
) -> bool | None:
    """Return whether a rater's share of right qualification items reaches the mark; None until all are
    answered.

    A skipped item is not right; otherwise skipping all of them would pass.
    """
    expected = {item.item_id: item.expected for item in items if item.check == "qualification"}
    answered = {task.item_id: task for task in tasks if task.answer and task.item_id in expected}
    if len(answered) < len(expected):
        return None
    right = sum(
        answer is not None and is_right(answered[item_id], answer, tolerance) is True
        for item_id, answer in expected.items()
    )
    return right >= mark * len(expected) - ROUNDING


def _are_same_order(given: Sequence[int], wanted: Sequence[int]) -> bool:
    """Return whether all pairs with different expected ranks are in the expected order."""
    return all(
        (given[first] < given[other]) == (wanted[first] < wanted[other]) and given[first] != given[other]
        for first, other in itertools.combinations(range(len(wanted)), 2)
        if wanted[first] != wanted[other]
    )


def _are_same_spans(given: Sequence[TextSpan], wanted: Sequence[TextSpan]) -> bool:
    """Return whether there are as many spans as expected, and each expected one overlaps one of the same
    label.
    """
    return len(given) == len(wanted) and all(
        any(
            span["label"] == expected["label"]
            and span["start"] < expected["end"]
            and expected["start"] < span["end"]
            for span in given
        )
        for expected in wanted
    )


def _normalize_text(text: str) -> str:
    return " ".join(text.casefold().split())


# Ratings of raters who are too fast or significantly below the pass mark are excluded from training rows by
# default.
#
# Too fast is the rule of `is_too_fast`, for any protocol. Below the pass mark means that the exact 95%
# interval of the share of right answers lies below it, from MIN_CHECKS items or more. For a rater whose true
# share equals the mark, that happens with a probability of at most 1 in 40 each for gold and attention items,
# so at most 1 in 20 is flagged, and fewer of those who are right more often.

MIN_CHECKS = 5  # minimum number of answered items for a flag
TAIL_PROBABILITY = 0.025  # for each of the two kinds
GRADED_KINDS: tuple[CheckKind, ...] = ("gold", "attention")  # qualification has its own rule
FLAG_TEXTS: dict[CheckKind, str] = {"gold": "failing gold items", "attention": "failing attention items"}
TOO_FAST = "too fast"


@dataclass(frozen=True)
class RaterChecks:
    """A rater's results on check items, and reasons to distrust the ratings.

    ratings: number of votes, without checks and repeats. shares: share of right answers by kind of check.
    flags: reasons as text, usually empty.
    """

    person_id: str
    rater: str
    ratings: int
    shares: Mapping[CheckKind, Interval]
    flags: tuple[str, ...]


class RaterPace(NamedTuple):
    """A rater's number of ratings and pace.

    ratings: number of votes, without checks and repeats. seconds: median over votes and repeats, NaN where
    not measured, as for judges.
    """

    rater: str
    ratings: int
    seconds: float


def compute_rater_checks(
    round: Round, tasks: Sequence[AssignedTask], items: Iterable[RoundItem]
) -> list[RaterChecks]:
    """Return the checks of each rater who has a task, in the order of first tasks."""
    own: dict[str, list[AssignedTask]] = defaultdict(list)
    for task in tasks:
        own[task.person_id].append(task)
    names = assign_rater_names(tasks)
    paces = {
        person_id: RaterPace(
            names[person_id],
            sum(task.purpose in COUNTING for task in rated if _is_answered(task)),
            _median(task.seconds for task in rated if _is_answered(task) and task.purpose not in CHECKS),
        )
        for person_id, rated in own.items()
    }
    return _grade_raters(round.config, paces, own, items)


def compute_checks_from_table(
    round: Round, rated: pa.Table, checking: Sequence[AssignedTask], items: Iterable[RoundItem]
) -> list[RaterChecks]:
    """Return the checks of each rater from the query `rated` and the tasks with check items.

    Faster than `compute_rater_checks` for tens of thousands of votes, which aren't loaded as documents.
    """
    own: dict[str, list[AssignedTask]] = defaultdict(list)
    for task in checking:
        own[task.person_id].append(task)
    column = rated["person_id"].combine_chunks().dictionary_encode()
    people, place = column.dictionary.to_pylist(), column.indices.to_numpy()
    first = np.unique(place, return_index=True)[1]
    called = dict(zip(people, rated["person_name"].take(pa.array(first)).to_pylist(), strict=True))
    called |= {person: tasks[0].person_name for person, tasks in own.items() if person not in called}
    names = {person_id: name for name, person_id in make_distinct_names(called, called.values()).items()}
    answered = ~rated["skipped"].to_numpy().astype(bool)
    counts = answered & pc.is_in(rated["purpose"], pa.array(sorted(COUNTING))).to_numpy()
    votes = np.bincount(place[counts], minlength=len(people))
    seconds = rated["seconds"].to_numpy().astype(np.float64)
    measured = answered & np.isfinite(seconds) & (seconds != 0)
    ends = np.cumsum(np.bincount(place[measured], minlength=len(people)))
    by_person = np.split(seconds[measured][np.argsort(place[measured], kind="stable")], ends[:-1])
    paces = {
        person: RaterPace(
            names[person], int(count), float(np.median(own_seconds)) if len(own_seconds) else math.nan
        )
        for person, count, own_seconds in zip(people, votes, by_person, strict=bool(people))
    }
    paces |= {person: RaterPace(names[person], 0, math.nan) for person in own if person not in paces}
    return _grade_raters(round.config, paces, own, items)


def _grade_raters(
    config: Mapping[str, Any],
    paces: Mapping[str, RaterPace],
    tasks: Mapping[str, Sequence[AssignedTask]],
    items: Iterable[RoundItem],
) -> list[RaterChecks]:
    """Grade raters from their pace and their tasks, both by person id; only tasks with check items are
    graded.
    """
    checked = {item.item_id: item for item in items if item.check}
    measured = {person: pace.seconds for person, pace in paces.items() if not math.isnan(pace.seconds)}
    tolerance, mark = config.get("gold_tolerance", GOLD_TOLERANCE), config.get("gold_pass", GOLD_PASS)
    graded = []
    for person_id, pace in paces.items():
        grades = grade_checks(tasks.get(person_id, ()), checked, tolerance)
        others = [at for other, at in measured.items() if other != person_id]
        flags = [TOO_FAST] if is_too_fast(pace.ratings, pace.seconds, others) else []
        flags += [
            FLAG_TEXTS[kind]
            for kind in GRADED_KINDS
            if kind in grades and is_surely_below(*grades[kind], mark)
        ]
        shares = {kind: estimate_correct_share(*grade) for kind, grade in grades.items()}
        graded.append(RaterChecks(person_id, pace.rater, pace.ratings, shares, tuple(flags)))
    return graded


def grade_checks(
    tasks: Iterable[AssignedTask], checked: Mapping[int, RoundItem], tolerance: int
) -> dict[CheckKind, tuple[int, int]]:
    """Return the number of right and of answered items by kind of check; kinds without answers are left out.

    An attention item names the exact answer, so it allows no tolerance.
    """
    grades: dict[CheckKind, tuple[int, int]] = {}
    for task in tasks:
        item = checked.get(task.item_id)
        if item is None or item.check is None or item.expected is None:
            continue
        right = is_right(task, item.expected, 0 if item.check == "attention" else tolerance)
        if right is not None:
            before, n = grades.get(item.check, (0, 0))
            grades[item.check] = (before + right, n + 1)
    return grades


def find_unqualified_raters(
    round: Round, tasks: Sequence[AssignedTask], items: Sequence[RoundItem]
) -> list[str]:
    """Return ids of raters who answered every qualification item, but too few correctly."""
    config = round.config
    mark, tolerance = config.get("qualification_pass", 0.0), config.get("gold_tolerance", GOLD_TOLERANCE)
    own: dict[str, list[AssignedTask]] = defaultdict(list)
    for task in tasks:
        own[task.person_id].append(task)
    return [
        person_id
        for person_id, mine in own.items()
        if has_passed_qualification(mine, items, mark, tolerance) is False
    ]


def estimate_correct_share(right: int, n: int) -> Interval:
    """Estimate the share of right answers with the exact interval (Clopper and Pearson 1934).

    With 5 items, Wilson's interval covers only 92% of raters who are right in 90%.
    """
    low = float(special.betaincinv(right, n - right + 1, TAIL_PROBABILITY)) if right else 0.0
    high = float(special.betaincinv(right + 1, n - right, 1 - TAIL_PROBABILITY)) if right < n else 1.0
    return Interval(right / n, low, high, n)


def is_surely_below(right: int, n: int, mark: float) -> bool:
    """Return whether the interval of the share lies below the mark, given enough items."""
    return n >= MIN_CHECKS and (estimate_correct_share(right, n).high or 0.0) < mark


def count_ratings(
    checks: Sequence[RaterChecks], left_out: Collection[str], *, include_flagged: bool = False
) -> RatingCounts:
    """Count the ratings that are used, and list those excluded by hand or by flags.

    With `include_flagged`, ratings of flagged raters are used.
    """
    out: list[ExcludedRatings] = []
    for each in checks:
        by_hand = ["left out by hand"] if each.person_id in left_out else []
        reasons = by_hand or (() if include_flagged else each.flags)
        if reasons:
            reason = " and ".join(reasons)
            out.append(
                ExcludedRatings(
                    person_id=each.person_id, rater=each.rater, ratings=each.ratings, reason=reason
                )
            )
    gone = {each["person_id"] for each in out}
    counted = [each.ratings for each in checks if each.person_id not in gone and each.ratings]
    return {"ratings": sum(counted), "raters": len(counted), "left_out": out}


def _median(seconds: Iterable[float | None]) -> float:
    measured = [each for each in seconds if each and math.isfinite(each)]
    return float(np.median(measured)) if measured else math.nan


def _is_answered(task: AssignedTask) -> bool:
    return task.answer is not None and "skipped" not in task.answer
