"""Whether a rater's answer to a check item is right: one whose answer is known, or stands in its own prompt.

What is expected is in terms of the item's own order of answers, what was answered in the order that the rater
saw. Right is, of pairs, labels and pass or fail, the same answer; of ranks the same order of all that are
expected apart; of a rubric a score within the tolerance, on each criterion that is expected; of a corrected
text, or free text, that it contains what is expected, case and white space aside; of several labels the same
set; of spans as many, each touching one of the same label. Pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from store.documents.rating.rating_desk import RatingAnswer, TextSpan
from store.documents.rating.round import GOLD_TOLERANCE, DealtTask, RoundItem

ROUNDING = 1e-9  # 0.7 of 10 items is 7, and not 7.000000000000001


def is_right(task: DealtTask, expected: RatingAnswer, tolerance: int = GOLD_TOLERANCE) -> bool | None:
    """Whether the task's rating is what is expected; None where there is none, or it was skipped."""
    given: Mapping[str, Any] = task["answer"] or {"skipped": True}
    wanted: Mapping[str, Any] = expected
    if "skipped" in given:
        return None
    if "choice" in wanted:
        return bool(_in_own_order(task["systems"], given.get("choice")) == wanted["choice"])
    if "ranks" in wanted:
        by_place = dict(zip(task["systems"], given.get("ranks", ()), strict=True))
        return _same_order([by_place[place] for place in sorted(by_place)], wanted["ranks"])
    if "scores" in wanted:
        scores = given.get("scores", {})
        return all(
            name in scores and abs(scores[name] - score) <= tolerance
            for name, score in wanted["scores"].items()
        )
    for field in ("text", "written"):
        if field in wanted:
            return _plain(wanted[field]) in _plain(str(given.get(field, "")))
    if "labels" in wanted:
        return set(given.get("labels", ())) == set(wanted["labels"])
    if "spans" in wanted:
        return _same_spans(given.get("spans", ()), wanted["spans"])
    field = "passed" if "passed" in wanted else "label"
    return bool(given.get(field) == wanted[field])


def passed_qualification(
    tasks: Iterable[DealtTask], items: Iterable[RoundItem], mark: float, tolerance: int = GOLD_TOLERANCE
) -> bool | None:
    """Whether a rater's answers to the qualification items are right as often as the mark; None until all are
    answered. One that was skipped is not right, else whoever skips all of them would pass."""
    expected = {item["item_id"]: item["expected"] for item in items if item["check"] == "qualification"}
    answered = {task["item_id"]: task for task in tasks if task["answer"] and task["item_id"] in expected}
    if len(answered) < len(expected):
        return None
    right = sum(
        answer is not None and is_right(answered[item_id], answer, tolerance) is True
        for item_id, answer in expected.items()
    )
    return right >= mark * len(expected) - ROUNDING


def _in_own_order(systems: Sequence[int], choice: object) -> object:
    """A choice of a side as the answer at that place of the item."""
    side = {"A": systems[0], "B": systems[-1]}.get(str(choice))
    return choice if side is None else "AB"[side]


def _same_order(given: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether all that are known to be apart are apart in the same direction."""
    return all(
        (given[first] < given[other]) == (wanted[first] < wanted[other]) and given[first] != given[other]
        for first, other in itertools.combinations(range(len(wanted)), 2)
        if wanted[first] != wanted[other]
    )


def _same_spans(given: Sequence[TextSpan], wanted: Sequence[TextSpan]) -> bool:
    """As many, and for each that is known one of its label that touches it."""
    return len(given) == len(wanted) and all(
        any(
            span["label"] == expected["label"]
            and span["start"] < expected["end"]
            and expected["start"] < span["end"]
            for span in given
        )
        for expected in wanted
    )


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
