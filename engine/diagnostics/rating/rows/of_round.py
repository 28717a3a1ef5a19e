"""The ratings of a round, as the store has them, in the form that the statistics take.

Sides are kept as they were shown. What was skipped, raters who are left out and check items count for nothing
here; a repeat counts for its rater's consistency alone, and what was asked for because people part settles
its item alone. A rating's item is the number of its prompt, and weighs 1 / the chance that it had. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.diagnostics.rating.rows.graded import CriterionScores, Passes, Ranks, Scale, comparisons_of
from engine.diagnostics.rating.rows.ratings import Comparisons, length_difference
from store.documents.rating.round import CHECKS, DealtTask, Round, RoundItem

LENGTH, FORMATTING = "length", "formatting"
OVERALL = "All criteria together, 0 to 100"
MARKS = ("**", "\n- ", "\n* ", "\n#", "\n1.", "```", "|")  # of Markdown
_SIDES = {"A": "left", "B": "right", "tie": "tie", "both_bad": "both_bad"}


@dataclass(frozen=True)
class RoundRatings:
    """What was said in a round; what its protocol does not ask is None. skipped: tasks that were. overall: of
    a rubric of several criteria, one figure over all of them where that was chosen."""

    systems: tuple[str, ...]
    comparisons: Comparisons | None
    scores: CriterionScores | None
    passes: Passes | None
    ranks: Ranks | None
    skipped: int
    overall: CriterionScores | None = None


def of_round(
    round: Round,
    tasks: Sequence[DealtTask],
    items: Sequence[RoundItem],
    left_out: Collection[str] = (),
) -> RoundRatings:
    """left_out: ids of raters who don't count."""
    names = system_names(round)
    counted = [task for task in tasks if task["purpose"] not in CHECKS and task["person_id"] not in left_out]
    answered = list(_answered(counted))
    first = [entry for entry in answered if entry[0]["purpose"] == "first"]
    by_id = {item["item_id"]: item for item in items}
    protocol = round["protocol"]
    comparisons = scores = passes = ranks = None
    if protocol == "pairwise":
        comparisons = _pairs(answered, names, by_id)
    elif protocol == "rank":
        ranks = _ranks(first, names, by_id)
        comparisons = comparisons_of(ranks)
    elif protocol == "rubric":
        scores = _scores(first, names, by_id, _scales(round))
    elif protocol == "pass_fail":
        passed = [answer["passed"] for _, answer in first]
        passes = Passes.of(*_single(first, names), passed, _weights(first, by_id))
    skipped = sum(task["answer"] is not None for task in counted) - len(answered)
    overall = None
    if scores is not None and round["config"].get("overall") and len(scores.criteria) > 1:
        overall = scores.overall(OVERALL)
    return RoundRatings(names, comparisons, scores, passes, ranks, skipped, overall)


def system_names(round: Round) -> tuple[str, ...]:
    """The names of the models, each once: a second one of the same name gets a number."""
    names: list[str] = []
    for system in round["systems"]:
        name, count = system["name"], 1
        while name in names:
            count += 1
            name = f"{system['name']} ({count})"
        names.append(name)
    return tuple(names)


def rater_names(tasks: Sequence[DealtTask]) -> dict[str, str]:
    """person id -> a name of their own: two people may bear one."""
    by_id: dict[str, str] = {}
    for task in tasks:
        if task["person_id"] in by_id:
            continue
        name, count = task["person_name"], 1
        while name in by_id.values():
            count += 1
            name = f"{task['person_name']} ({count})"
        by_id[task["person_id"]] = name
    return by_id


def answer_of(task: DealtTask) -> Mapping[str, Any]:
    """What was answered, as a mapping of any fields; empty where nothing was yet."""
    return task["answer"] or {}


def _answered(tasks: Sequence[DealtTask]) -> Iterator[tuple[DealtTask, Mapping[str, Any]]]:
    for task in tasks:
        answer = answer_of(task)
        if answer and "skipped" not in answer:
            yield task, answer


def _pairs(
    answered: Sequence[tuple[DealtTask, Mapping[str, Any]]],
    names: tuple[str, ...],
    items: Mapping[int, RoundItem],
) -> Comparisons:
    raters = rater_names([task for task, _ in answered])
    texts = [
        [items[task["item_id"]]["answers"][system] for system in task["systems"]] for task, _ in answered
    ]
    lengths = np.array([[len(text) for text in pair] for pair in texts], float).reshape(-1, 2)
    marks = np.array([[_marks(text) for text in pair] for pair in texts], float).reshape(-1, 2)
    differences = {
        LENGTH: length_difference(lengths[:, 0], lengths[:, 1]),
        FORMATTING: marks[:, 0] - marks[:, 1],
    }
    varying = {name: values for name, values in differences.items() if np.any(values)}
    return Comparisons.of(
        [names[task["systems"][0]] for task, _ in answered],
        [names[task["systems"][1]] for task, _ in answered],
        [_SIDES[answer["choice"]] for _, answer in answered],
        [task["item_id"] for task, _ in answered],
        [raters[task["person_id"]] for task, _ in answered],
        systems=names,
        seconds=[float("nan") if task["seconds"] is None else task["seconds"] for task, _ in answered],
        repeat=[task["purpose"] == "repeat" for task, _ in answered],
        adjudication=[task["purpose"] == "adjudication" for task, _ in answered],
        weights=_weights(answered, items),
        covariates=tuple(varying),
        differences=np.column_stack(list(varying.values())) if varying else np.empty((len(answered), 0)),
    )


def _marks(text: str) -> float:
    """How much Markdown a text has, as the logarithm of one more than its marks."""
    return float(np.log1p(sum(text.count(mark) for mark in MARKS)))


def _weights(
    answered: Sequence[tuple[DealtTask, Mapping[str, Any]]], items: Mapping[int, RoundItem]
) -> list[float]:
    """Of the item of each rating."""
    return [items[task["item_id"]]["weight"] for task, _ in answered]


def _ranks(
    answered: Sequence[tuple[DealtTask, Mapping[str, Any]]],
    names: tuple[str, ...],
    items: Mapping[int, RoundItem],
) -> Ranks:
    raters = rater_names([task for task, _ in answered])
    entries = [
        (names[system], task["item_id"], raters[task["person_id"]], rank, items[task["item_id"]]["weight"])
        for task, answer in answered
        for system, rank in zip(task["systems"], answer["ranks"], strict=True)
    ]
    columns: list[list[Any]] = [list(column) for column in zip(*entries, strict=True)] or [[], [], [], [], []]
    return Ranks.of(*columns)


def _single(
    answered: Sequence[tuple[DealtTask, Mapping[str, Any]]], names: tuple[str, ...]
) -> tuple[list[str], list[int], list[str]]:
    """System, item and rater of ratings of one answer."""
    raters = rater_names([task for task, _ in answered])
    return (
        [names[task["systems"][0]] for task, _ in answered],
        [task["item_id"] for task, _ in answered],
        [raters[task["person_id"]] for task, _ in answered],
    )


def _scores(
    answered: Sequence[tuple[DealtTask, Mapping[str, Any]]],
    names: tuple[str, ...],
    items: Mapping[int, RoundItem],
    scales: Mapping[str, Scale],
) -> CriterionScores:
    several = [(task, answer) for task, answer in answered for _ in answer["scores"]]
    pairs = [pair for _, answer in answered for pair in answer["scores"].items()]
    return CriterionScores.of(
        *_single(several, names),
        [criterion for criterion, _ in pairs],
        [score for _, score in pairs],
        _weights(several, items),
        scales,
    )


def _scales(round: Round) -> dict[str, Scale]:
    """Of each criterion: from 1 to its number of points."""
    criteria = round["config"].get("criteria", [])
    return {criterion["name"]: (1, len(criterion["anchors"])) for criterion in criteria}
