"""Statistics of people's labels and label sets: majority labels, agreement, and accuracy of versions.

A text has the labels that more than half of its raters gave; without a majority it is unsettled and counts
as wrong in the lower limit of a version's accuracy and as right in the upper (Manski 1989). Accuracy uses
only the random sample, agreement only first ratings. Pure functions.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from engine.evaluation.statistics.intervals import Interval, ratio_interval, wilson_interval
from engine.rating.analysis import reasons_text
from engine.rating.analysis.krippendorff_alpha import Alpha, LabelSet, compute_alpha, compute_set_alpha
from engine.rating.analysis.round_ratings import get_task_answer, list_system_names
from store.core.rating_schemas import CHECKS, COUNTING, AnsweredTask, Round, RoundItem, RoundRequest

# Texts without a majority are harder than others, so a version's accuracy includes them: as wrong for the
# lower limit, as right for the upper one (Manski 1989), and by the share of raters who gave the version's
# label for the value.
#
# A version is judged only on texts of the random sample: those selected as most informative are hard on
# purpose, and their share is not representative of all requests. A request that occurred several times is
# weighted by its count. Agreement uses first ratings only, as more people are asked where raters disagree,
# and texts with a known sampling probability, weighted by its inverse.

NONE_FITS = "\n"  # stands for "none fits" in agreement: labels are single lines, so no label equals it


class ServedLabel(NamedTuple):
    """Label that a version gave an item.

    random: whether the item is from a random sample. times: how often the label was given.
    """

    item_id: int
    version: str
    label: str
    random: bool
    times: int = 1


class VersionAccuracy(NamedTuple):
    """How often a version's label matches people's.

    random: accuracy on texts sampled at random. unsettled: number of those on which raters disagree.
    telling, telling_right: number of texts selected as most informative, which are hard on purpose, and
    how many of them are right.
    """

    version: str
    random: Interval
    unsettled: int
    telling: int
    telling_right: int


@dataclass(frozen=True)
class LabelStatistics:
    """Statistics of a round with one label per text.

    majority: label of each settled text, None where none of the labels fits. counts: labels with their
    number of texts, most frequent first. disputed: texts without a majority. same_again: share of repeats
    on which a rater gave the same label.
    """

    majority: Mapping[int, str | None]
    counts: list[tuple[str | None, int]]
    disputed: list[int]
    alpha: Alpha
    same_again: Interval
    ratings: int
    skipped: int
    accuracy: list[VersionAccuracy]


def list_served_labels(
    round: Round, items: Sequence[RoundItem], requests: Sequence[RoundRequest]
) -> list[ServedLabel]:
    """List the labels that versions gave: from logged requests, or from the models' answers to a data set's
    rows.

    Leading and trailing white space is stripped, as in the labels that raters choose from.
    """
    if round.config.get("requests"):
        counted = Counter(
            (each.item_id, each.version, (each.label or "").strip(), each.random) for each in requests
        )
        return [ServedLabel(*key, times) for key, times in counted.items()]
    random, names = round.config.get("choice") != "telling", list_system_names(round)
    return [
        ServedLabel(item.item_id, name, answer.strip(), random)
        for item in items
        if not item.check
        for name, answer in zip(names, item.answers, strict=True)
        if answer is not None
    ]


def compute_sampling_weights(
    round: Round, items: Sequence[RoundItem], requests: Sequence[RoundRequest]
) -> dict[int, float]:
    """Return 1 / sampling probability by item id.

    Logged requests that were selected as most informative have no sampling probability and are left out.
    """
    telling = {each.item_id for each in requests if not each.random}
    if not round.config.get("requests"):
        telling = set()
    return {item.item_id: item.weight for item in items if item.item_id not in telling}


def compute_label_statistics(
    tasks: Sequence[AnsweredTask],
    served: Sequence[ServedLabel],
    weights: Mapping[int, float],
    left_out: Collection[str] = (),
) -> LabelStatistics:
    """Compute the label statistics of a round.

    `weights` are those of `compute_sampling_weights`; `left_out` are ids of excluded raters.
    """
    counted = [
        task
        for task in tasks
        if task.answer and task.purpose not in CHECKS and task.person_id not in left_out
    ]
    labelled = [task for task in counted if "label" in (task.answer or {})]
    first = [task for task in labelled if task.purpose in COUNTING]
    by_item: dict[int, list[str | None]] = defaultdict(list)
    for task in first:
        by_item[task.item_id].append(find_given_label(task))
    majority, disputed = {}, []
    for item_id, labels in sorted(by_item.items()):
        label, count = Counter(labels).most_common(1)[0]
        if 2 * count > len(labels):
            majority[item_id] = label
        else:
            disputed.append(item_id)
    parted = {item: by_item[item] for item in disputed}
    by_version: dict[str, list[ServedLabel]] = defaultdict(list)
    for each in served:
        by_version[each.version].append(each)
    return LabelStatistics(
        majority,
        Counter(majority.values()).most_common(),
        disputed,
        _compute_agreement(first, weights),
        _estimate_self_consistency(labelled),
        len(first),
        sum("label" not in (task.answer or {}) for task in counted),
        [_estimate_accuracy(version, own, majority, parted) for version, own in by_version.items()],
    )


def _compute_agreement(rated: Sequence[AnsweredTask], weights: Mapping[int, float]) -> Alpha:
    fresh = [task for task in rated if task.purpose == "first"]
    chosen = [task for task in fresh if task.item_id in weights]
    if fresh and not chosen:
        return Alpha(Interval(math.nan, None, None, 0, why=reasons_text.NONE_AT_RANDOM), 0, "nominal")
    given = [find_given_label(task) for task in chosen]
    return compute_alpha(
        [NONE_FITS if label is None else label for label in given],
        [task.item_id for task in chosen],
        weights=[weights[task.item_id] for task in chosen],
    )


def find_given_label(task: AnsweredTask) -> str | None:
    """Return a rating's label, or None if none of the round's labels fits."""
    answer: Mapping[str, object] = task.answer or {}
    label = answer["label"]
    return None if label is None else str(label)


def _estimate_self_consistency(labelled: Sequence[AnsweredTask]) -> Interval:
    """Estimate how often a repeat got the label that the rater gave first."""
    by_id = {task.task_id: task for task in labelled}
    pairs = [
        (task, by_id[task.repeat_of])
        for task in labelled
        if task.purpose == "repeat" and task.repeat_of in by_id
    ]
    return _estimate_share(
        sum(find_given_label(again) == find_given_label(before) for again, before in pairs), len(pairs)
    )


def _estimate_share(right: int, n: int) -> Interval:
    if not n:
        return Interval(math.nan, None, None, 0, why=reasons_text.NOTHING_RATED)
    return wilson_interval(right, n)


class _DrawnText:
    """Text of the random sample under one version.

    times: how often it occurred. surely, at_most: lower and upper bound on how often the label was right.
    by_raters: the same, with disputed texts counted by the share of raters who gave the version's label.
    """

    __slots__ = ("at_most", "by_raters", "surely", "times")

    def __init__(self) -> None:
        self.times = self.surely = self.at_most = 0
        self.by_raters = 0.0


def _estimate_accuracy(
    version: str,
    own: Sequence[ServedLabel],
    majority: Mapping[int, str | None],
    disputed: Mapping[int, Sequence[str | None]],
) -> VersionAccuracy:
    texts: dict[int, _DrawnText] = defaultdict(_DrawnText)
    parted: set[int] = set()
    for each in own:
        item_id, count = each.item_id, each.times
        if not each.random or (item_id not in majority and item_id not in disputed):
            continue
        text = texts[item_id]
        text.times += count
        if item_id in majority:
            hits = count * (each.label == majority[item_id])
            text.surely, text.at_most = text.surely + hits, text.at_most + hits
            text.by_raters += hits
        else:
            given = disputed[item_id]
            parted.add(item_id)
            text.at_most += count
            text.by_raters += count * given.count(each.label) / len(given)
    telling = [each for each in own if not each.random and each.item_id in majority]
    right = sum(each.label == majority[each.item_id] for each in telling)
    times = [text.times for text in texts.values()]
    low = _estimate_weighted_share([text.surely for text in texts.values()], times)
    if not parted:
        return VersionAccuracy(version, low, 0, len(telling), right)
    high = _estimate_weighted_share([text.at_most for text in texts.values()], times)
    value = sum(text.by_raters for text in texts.values()) / sum(times)
    interval = Interval(value, low.low, high.high, low.n)
    return VersionAccuracy(version, interval, len(parted), len(telling), right)


def _estimate_weighted_share(right: Sequence[int], times: Sequence[int]) -> Interval:
    """Estimate the share of right labels over texts weighted by their number of occurrences.

    If all are right or all wrong, the sample variance is 0, so Wilson's interval is used with the
    effective number of texts of equal weight.
    """
    if all(count == 1 for count in times):
        return _estimate_share(sum(right), len(right))
    if 0 < sum(right) < sum(times):
        return ratio_interval(right, times)
    effective = max(1, math.floor(sum(times) ** 2 / sum(count**2 for count in times)))
    return replace(_estimate_share(effective if sum(right) else 0, effective), n=len(times))


# A label that exactly half of the raters gave is undecided, and so is its text. Agreement uses first ratings
# only, as more people are asked where raters disagree.

MAX_LABELS = 30  # agreement is computed for this many labels, the most frequent first


class LabelUsage(NamedTuple):
    """Number of texts with a label, and the alpha of whether it is given; None beyond MAX_LABELS."""

    label: str
    texts: int
    alpha: Alpha | None


@dataclass(frozen=True)
class LabelSetStatistics:
    """Statistics of a round with label sets.

    settled: labels of each settled text, in the round's order. disputed: texts with a label that exactly
    half of the raters gave. same_again: share of repeats on which a rater gave the same set.
    """

    settled: Mapping[int, list[str]]
    disputed: list[int]
    labels: list[LabelUsage]
    alpha: Alpha
    same_again: Interval | None
    ratings: int
    skipped: int


def compute_label_set_statistics(
    labels: Sequence[str],
    tasks: Sequence[AnsweredTask],
    weights: Mapping[int, float],
    left_out: Collection[str] = (),
) -> LabelSetStatistics:
    """Compute the label set statistics of a round.

    `labels` are the round's; `weights` are those of `compute_sampling_weights`.
    """
    counted = [task for task in tasks if task.answer and task.person_id not in left_out]
    given = [task for task in counted if "labels" in get_task_answer(task)]
    voted = [task for task in given if task.purpose in ("first", "adjudication")]
    by_item: dict[int, list[LabelSet]] = defaultdict(list)
    for task in voted:
        by_item[task.item_id].append(find_given_labels(task))
    settled: dict[int, list[str]] = {}
    disputed = []
    for item_id, sets in sorted(by_item.items()):
        counts = Counter(label for labels_of_one in sets for label in labels_of_one)
        if any(2 * count == len(sets) for count in counts.values()):
            disputed.append(item_id)
        else:
            settled[item_id] = [label for label in labels if 2 * counts[label] > len(sets)]
    first = [task for task in voted if task.purpose == "first" and task.item_id in weights]
    return LabelSetStatistics(
        settled,
        disputed,
        _list_labels(settled, first, weights),
        compute_set_alpha(
            [find_given_labels(task) for task in first],
            [task.item_id for task in first],
            [weights[task.item_id] for task in first],
        ),
        _estimate_self_consistency_of_sets(given),
        len(voted),
        len(counted) - len(given),
    )


def find_given_labels(task: AnsweredTask) -> LabelSet:
    """Return a rating's labels."""
    return frozenset(get_task_answer(task)["labels"])


def _list_labels(
    settled: Mapping[int, list[str]], first: Sequence[AnsweredTask], weights: Mapping[int, float]
) -> list[LabelUsage]:
    """List the labels that at least one rater gave, by number of texts in descending order."""
    texts = Counter(label for given in settled.values() for label in given)
    votes = Counter(label for task in first for label in find_given_labels(task))
    items = [task.item_id for task in first]
    ordered = sorted(set(texts) | set(votes), key=lambda label: (-texts[label], -votes[label], label))
    return [
        LabelUsage(
            label,
            texts[label],
            compute_alpha(
                [label in find_given_labels(task) for task in first],
                items,
                weights=[weights[item] for item in items],
            )
            if place < MAX_LABELS
            else None,
        )
        for place, label in enumerate(ordered)
    ]


def _estimate_self_consistency_of_sets(given: Sequence[AnsweredTask]) -> Interval | None:
    """Estimate how often a repeat got the labels that the rater gave first; None without repeats."""
    by_id = {task.task_id: task for task in given}
    pairs = [
        (task, by_id[task.repeat_of])
        for task in given
        if task.purpose == "repeat" and task.repeat_of in by_id
    ]
    same = sum(find_given_labels(again) == find_given_labels(before) for again, before in pairs)
    return wilson_interval(same, len(pairs)) if pairs else None
