"""Convert a round's ratings from the store into the arrays that the statistics take.

Sides are kept as shown. Skipped tasks, excluded raters and check items are dropped; repeats count only for
their rater's consistency, and adjudication only settles its item. A rating's item is its prompt's number,
weighted by 1 / its sampling probability. Ratings come as columns of one table
(`store.rating.ratings.rated`) without texts, as there may be tens of thousands. Pure functions.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.rating.analysis.comparisons import (
    Comparisons,
    NameIndex,
    PairOutcome,
    compute_length_difference,
    index_names,
)
from engine.rating.analysis.rates import (
    FIVE_POINTS,
    CriterionScores,
    Passes,
    Ranks,
    Scale,
    derive_comparisons,
)
from store.core.rating_schemas import (
    AnsweredTask,
    AssignedTask,
    LabelAnswer,
    RaterCounts,
    Round,
    SkippedTask,
    is_imported_round,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LENGTH, FORMATTING = "length", "formatting"
OVERALL = "All criteria together, 0 to 100"
CHOICES = ("A", "B", "tie", "both_bad")  # in the order of PairOutcome


@dataclass(frozen=True)
class RoundRatings:
    """Ratings of a round; fields that don't apply to its protocol are None.

    skipped: number of skipped tasks. people: rater name -> person id. overall: one score over all criteria
    of a rubric, if the round asks for it.
    """

    systems: tuple[str, ...]
    comparisons: Comparisons | None
    scores: CriterionScores | None
    passes: Passes | None
    ranks: Ranks | None
    skipped: int
    people: Mapping[str, str]
    overall: CriterionScores | None = None


def build_round_ratings(round: Round, rated: pa.Table, left_out: Collection[str] = ()) -> RoundRatings:
    """Build the ratings of a round from the query `rated`.

    `left_out` are ids of excluded raters. Requests that were selected as most informative are dropped.
    """
    names = list_system_names(round)
    out = pa.array(sorted(left_out), pa.string())
    counted = rated.filter(pc.invert(pc.or_(pc.is_in(rated["person_id"], out), rated["telling"])))
    answered = counted.filter(pc.invert(counted["skipped"]))
    answers = _Answers.of(names, answered)
    first = _Answers.of(names, answered.filter(pc.equal(answered["purpose"], "first")))
    protocol = round.protocol
    comparisons = scores = passes = ranks = None
    if protocol == "pairwise":
        comparisons = replace(_build_comparisons(answers), by_vote=is_imported_round(round))
    elif protocol == "rank":
        entries = first.of_answers(np.full(len(first.table), first.systems.shape[1]))
        places = pc.list_flatten(first.table["ranks"]).to_numpy().astype(np.int64)
        ranks = Ranks(**entries | {"system": first.systems.ravel()}, rank=places)
        comparisons = derive_comparisons(ranks)
    elif protocol == "rubric":
        criteria = round.config.get("criteria", [])
        scores = _build_scores(first, {each["name"]: (1, len(each["anchors"])) for each in criteria})
    elif protocol == "pass_fail":
        passes = Passes(**first.of_answers(), passed=first.numbers("passed").astype(bool))
    skipped = len(counted) - len(answered)
    overall = None
    if scores is not None and round.config.get("overall") and len(scores.criteria) > 1:
        overall = scores.overall(OVERALL)
    return RoundRatings(names, comparisons, scores, passes, ranks, skipped, answers.people, overall)


def list_label_tasks(rated: pa.Table) -> list[AnsweredTask]:
    """Return the ratings of a round with one label per text, as tasks with the fields its statistics read."""
    names = ["task_id", "repeat_of", "item_id", "person_id", "purpose"]
    fields = zip(*(rated[name].to_pylist() for name in (*names, "label", "skipped")), strict=True)
    tasks = []
    for *of_task, label, skipped in fields:
        answer: LabelAnswer | SkippedTask
        answer = {"skipped": True, "reason": ""} if skipped else {"label": label, "note": ""}
        tasks.append(AnsweredTask(**dict(zip(names, of_task, strict=True)), answer=answer))
    return tasks


@dataclass(frozen=True)
class _Answers:
    """Answers of a table, with names as indices: systems as shown [answers, shown], and items and raters in
    order of first occurrence.
    """

    names: tuple[str, ...]
    table: pa.Table
    systems: Ints
    item: NameIndex
    rater: NameIndex
    people: Mapping[str, str]

    @classmethod
    def of(cls, names: tuple[str, ...], table: pa.Table) -> _Answers:
        systems = pc.list_flatten(table["systems"]).to_numpy().astype(np.int64)
        ids = _index_column(table["person_id"])
        first = np.unique(ids.places, return_index=True)[1]
        people = make_distinct_names(ids.names, table["person_name"].take(pa.array(first)).to_pylist())
        item = _index_column(table["item_id"])
        raters = NameIndex(tuple(people), ids.places)
        width = len(systems) // max(1, len(table))
        return cls(names, table, systems.reshape(len(table), width), item, raters, people)

    def numbers(self, column: str) -> Floats:
        """Return a numeric column, with NaN for null."""
        values: Floats = self.table[column].cast(pa.float64()).to_numpy(zero_copy_only=False)
        return values

    def texts(self, column: str) -> list[str]:
        """Return a text column."""
        texts: list[str] = self.table[column].to_pylist()
        return texts

    def of_answers(self, repeats: Ints | None = None) -> dict[str, Any]:
        """Return the fields of `GradedAnswers`, with `repeats` entries for each answer (default: one)."""
        each = np.repeat(np.arange(len(self.table)), 1 if repeats is None else repeats)
        system = self.systems[each, 0] if len(each) else np.empty(0, np.int64)
        return {"systems": self.names, "system": system, "item": self.item.places[each],
                "rater": self.rater.places[each], "raters": self.rater.names, "items": self.item.names,
                "weights": self.numbers("weight")[each]}  # fmt: skip


def _index_column(column: pa.ChunkedArray) -> NameIndex:
    """Return the unique values of a column in order of first occurrence, and the index of each entry."""
    encoded = column.combine_chunks().dictionary_encode()
    names = tuple(str(value) for value in encoded.dictionary.to_pylist())
    return NameIndex(names, encoded.indices.to_numpy().astype(np.int64))


def list_system_names(round: Round) -> tuple[str, ...]:
    """Return distinct names of the models: a second one of the same name gets a number."""
    names: list[str] = []
    for system in round.systems:
        name, count = system.name, 1
        while name in names:
            count += 1
            name = f"{system.name} ({count})"
        names.append(name)
    return tuple(names)


def assign_rater_names(tasks: Iterable[AssignedTask]) -> dict[str, str]:
    """Return a distinct name for each person id, as two people may have the same one."""
    by_id: dict[str, str] = {}
    for task in tasks:
        by_id.setdefault(task.person_id, task.person_name)
    return {person_id: name for name, person_id in make_distinct_names(by_id, by_id.values()).items()}


def index_raters_by_name(counts: Iterable[RaterCounts]) -> dict[str, str]:
    """Return person ids by distinct name."""
    listed = list(counts)
    return make_distinct_names([each.person_id for each in listed], [each.name for each in listed])


def make_distinct_names(ids: Iterable[str], given: Iterable[str]) -> dict[str, str]:
    """Return person ids by distinct name: a second person of the same name gets a number."""
    people: dict[str, str] = {}
    for person_id, called in zip(ids, given, strict=True):
        name, count = called, 1
        while name in people:
            count += 1
            name = f"{called} ({count})"
        people[name] = person_id
    return people


def get_task_answer(task: AnsweredTask) -> Mapping[str, Any]:
    """Return the answer as a mapping of any fields; empty if there is none yet."""
    return task.answer or {}


def _build_comparisons(answers: _Answers) -> Comparisons:
    purpose, preference = answers.table["purpose"], answers.numbers("preference")
    choices = pc.index_in(answers.table["choice"], pa.array(CHOICES)).to_numpy().astype(np.int64)
    lengths = [answers.numbers(f"{side}_length") for side in ("left", "right")]
    differences = {
        LENGTH: compute_length_difference(*lengths),
        FORMATTING: answers.numbers("left_marks") - answers.numbers("right_marks"),
    }
    whole = {name: values for name, values in differences.items() if not np.isnan(values).any()}
    varying = {name: values for name, values in whole.items() if np.any(values)}  # all zero: uninformative
    systems = answers.systems.reshape(-1, 2)
    preference[choices >= PairOutcome.TIE] = np.nan
    return Comparisons(
        answers.names, systems[:, 0], systems[:, 1], choices, answers.item.places, answers.rater.places,
        answers.rater.names, answers.item.names, seconds=answers.numbers("seconds"),
        repeat=pc.equal(purpose, "repeat").to_numpy(),
        adjudication=pc.equal(purpose, "adjudication").to_numpy(),
        covariates=tuple(varying),
        differences=np.column_stack(list(varying.values())) if varying else np.empty((len(systems), 0)),
        weights=answers.numbers("weight"),
        preference=preference if np.isfinite(preference).any() else None,
    )  # fmt: skip


def _build_scores(answers: _Answers, scales: Mapping[str, Scale]) -> CriterionScores:
    """Return one entry per criterion of each answer."""
    given: list[dict[str, float]] = [json.loads(scores) for scores in answers.texts("scores")]
    criteria = index_names([criterion for scores in given for criterion in scores])
    return CriterionScores(
        **answers.of_answers(np.array([len(scores) for scores in given], np.int64)),
        criteria=criteria.names, criterion=criteria.places,
        scales=tuple(scales.get(name, FIVE_POINTS) for name in criteria.names),
        score=np.array([score for scores in given for score in scores.values()], np.float64),
    )  # fmt: skip
