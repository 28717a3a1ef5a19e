"""What people's sets of labels come to: which labels each text has, how often each is given, and how far
people agree, on whole sets and on each label.

A text has the labels that more than half of its raters gave. A label that exactly half gave is undecided, and
so is its text. Agreement is told by first ratings alone, as more people are asked where they part. Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engine.diagnostics.rating.raters.alpha import Alpha, alpha
from engine.diagnostics.rating.raters.set_alpha import LabelSet, set_alpha
from engine.diagnostics.rating.rows.of_round import answer_of
from engine.diagnostics.statistics.statistics import Interval, wilson_interval
from store.documents.rating.round import DealtTask

MAX_LABELS = 30  # of which agreement is worked out, the most frequent first


class OneLabel(NamedTuple):
    """texts: that have it; alpha: of whether it is given, None beyond MAX_LABELS."""

    label: str
    texts: int
    alpha: Alpha | None


@dataclass(frozen=True)
class LabelSetFigures:
    """settled: labels of each text that people settled, in the round's order; disputed: texts on a label of
    which half part from half. same_again: second looks at which a rater gave the very same labels."""

    settled: Mapping[int, list[str]]
    disputed: list[int]
    labels: list[OneLabel]
    alpha: Alpha
    same_again: Interval | None
    ratings: int
    skipped: int


def label_set_figures(
    labels: Sequence[str],
    tasks: Sequence[DealtTask],
    weights: Mapping[int, float],
    left_out: Collection[str] = (),
) -> LabelSetFigures:
    """labels: of the round; weights: of items, as `chance_weights` has them."""
    counted = [task for task in tasks if task["answer"] and task["person_id"] not in left_out]
    given = [task for task in counted if "labels" in answer_of(task)]
    voted = [task for task in given if task["purpose"] in ("first", "adjudication")]
    by_item: dict[int, list[LabelSet]] = defaultdict(list)
    for task in voted:
        by_item[task["item_id"]].append(given_labels(task))
    settled: dict[int, list[str]] = {}
    disputed = []
    for item_id, sets in sorted(by_item.items()):
        counts = Counter(label for labels_of_one in sets for label in labels_of_one)
        if any(2 * count == len(sets) for count in counts.values()):
            disputed.append(item_id)
        else:
            settled[item_id] = [label for label in labels if 2 * counts[label] > len(sets)]
    first = [task for task in voted if task["purpose"] == "first" and task["item_id"] in weights]
    return LabelSetFigures(
        settled,
        disputed,
        _labels(settled, first, weights),
        _of_sets(first, weights),
        _same_again(given),
        len(voted),
        len(counted) - len(given),
    )


def given_labels(task: DealtTask) -> LabelSet:
    """Of a rating that gives labels."""
    return frozenset(answer_of(task)["labels"])


def _of_sets(first: Sequence[DealtTask], weights: Mapping[int, float]) -> Alpha:
    items = [task["item_id"] for task in first]
    return set_alpha([given_labels(task) for task in first], items, [weights[item] for item in items])


def _labels(
    settled: Mapping[int, list[str]], first: Sequence[DealtTask], weights: Mapping[int, float]
) -> list[OneLabel]:
    """Those that somebody gave, of most texts first."""
    texts = Counter(label for given in settled.values() for label in given)
    votes = Counter(label for task in first for label in given_labels(task))
    items = [task["item_id"] for task in first]
    ordered = sorted(set(texts) | set(votes), key=lambda label: (-texts[label], -votes[label], label))
    return [
        OneLabel(
            label,
            texts[label],
            alpha(
                [label in given_labels(task) for task in first],
                items,
                weights=[weights[item] for item in items],
            )
            if place < MAX_LABELS
            else None,
        )
        for place, label in enumerate(ordered)
    ]


def _same_again(given: Sequence[DealtTask]) -> Interval | None:
    """Of second looks, with what the rater said at the first; None without one."""
    by_id = {task["task_id"]: task for task in given}
    pairs = [
        (task, by_id[task["repeat_of"]])
        for task in given
        if task["purpose"] == "repeat" and task["repeat_of"] in by_id
    ]
    same = sum(given_labels(again) == given_labels(before) for again, before in pairs)
    return wilson_interval(same, len(pairs)) if pairs else None
