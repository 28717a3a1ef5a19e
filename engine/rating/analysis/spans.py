"""Statistics of people's spans: counts by label, agreement on positions, and exact matches (F1).

F1 doesn't correct for chance: twice the spans that both raters have over all spans of both. Pure
functions.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

from engine.evaluation.statistics.intervals import Interval, ratio_interval
from engine.rating.analysis import reasons_text
from engine.rating.analysis.krippendorff_alpha import (
    Alpha,
    LabelledSpan,
    MarkedText,
    TextId,
    compute_span_alpha,
)
from engine.rating.analysis.round_ratings import assign_rater_names, get_task_answer
from engine.rating.training_rows import find_judged_text
from store.core.rating_schemas import AssignedTask, Round, RoundItem

# Exact matches have the same start, end and label; a span that is off by one character matches nothing.

Counts = dict[int, tuple[int, int]]  # by item: twice the number of matches, and the spans of both raters
MIN_TEXTS = 50  # minimum number of texts with a span for an interval
MIN_HITS = 8  # minimum number of texts with a match, and of texts with an unmatched span


@dataclass(frozen=True)
class SpanMatch:
    """F1 of two raters; the interval's n counts texts in which either marked a span."""

    first: str
    second: str
    interval: Interval


def compute_span_matches(
    texts: Sequence[MarkedText], weights: Mapping[int, float] | None = None
) -> tuple[Interval, list[SpanMatch]]:
    """Return F1 over all pairs of raters, and of each pair that marked common texts."""
    by_text: dict[TextId, list[MarkedText]] = defaultdict(list)
    for text in texts:
        by_text[text.item, text.text].append(text)
    counts: dict[tuple[str, str], Counts] = defaultdict(lambda: defaultdict(lambda: (0, 0)))
    pooled: Counts = defaultdict(lambda: (0, 0))
    for (item, _), marked in by_text.items():
        for first, second in combinations(sorted(marked, key=lambda text: text.rater), 2):
            hits = 2 * len(set(first.spans) & set(second.spans))
            spans = len(first.spans) + len(second.spans)
            for of in (counts[first.rater, second.rater], pooled):
                of[item] = of[item][0] + hits, of[item][1] + spans
    pairs = [SpanMatch(*pair, _f1(of_pair, weights)) for pair, of_pair in sorted(counts.items())]
    return _f1(pooled, weights), pairs


def _f1(counts: Counts, weights: Mapping[int, float] | None) -> Interval:
    marked = {item: each for item, each in counts.items() if each[1]}
    n = len(marked)
    if not n:
        return Interval(math.nan, None, None, 0, why=reasons_text.NONE_MARKED)
    weight = [1.0 if weights is None else weights[item] for item in marked]
    hits = [part * times for (part, _), times in zip(marked.values(), weight, strict=True)]
    spans = [part * times for (_, part), times in zip(marked.values(), weight, strict=True)]
    value = sum(hits) / sum(spans)
    matched = sum(part > 0 for part in hits)
    missed = sum(part < whole for part, whole in zip(hits, spans, strict=True))
    if n < MIN_TEXTS:
        return Interval(value, None, None, n, why=reasons_text.explain_few_texts(n, MIN_TEXTS))
    if min(matched, missed) < MIN_HITS:
        return Interval(value, None, None, n, why=reasons_text.explain_few_matches(matched, missed, n))
    at = ratio_interval(hits, spans)
    if at.low is None or at.high is None:
        return at
    return replace(at, low=max(0.0, at.low), high=min(1.0, at.high))


class SpanLabelCounts(NamedTuple):
    """Number of spans with a label, and of texts that contain one."""

    label: str
    spans: int
    texts: int


@dataclass(frozen=True)
class SpanStatistics:
    """Statistics of a round with spans.

    match: F1 of exact spans over all pairs of raters. pairs: F1 of each pair.
    """

    labels: list[SpanLabelCounts]
    alpha: Alpha
    match: Interval
    pairs: list[SpanMatch]
    texts: int
    ratings: int
    skipped: int


def compute_span_statistics(
    round: Round, tasks: Sequence[AssignedTask], items: Sequence[RoundItem], left_out: Collection[str] = ()
) -> SpanStatistics:
    """Compute the span statistics of a round; `left_out` are ids of excluded raters."""
    counted = [
        task
        for task in tasks
        if task.answer and task.purpose in ("first", "adjudication") and task.person_id not in left_out
    ]
    marked = [task for task in counted if "spans" in get_task_answer(task)]
    labels: Counter[str] = Counter()
    texts_of: dict[str, set[tuple[int, int]]] = {}
    for task in marked:
        for span in get_task_answer(task)["spans"]:
            labels[span["label"]] += 1
            texts_of.setdefault(span["label"], set()).add((task.item_id, task.systems[0]))
    texts = list(_list_marked_texts(round, [task for task in marked if task.purpose == "first"], items))
    weights = {item.item_id: item.weight for item in items}
    match, pairs = compute_span_matches(texts, weights)
    return SpanStatistics(
        [SpanLabelCounts(label, count, len(texts_of[label])) for label, count in labels.most_common()],
        compute_span_alpha(texts, weights),
        match,
        pairs,
        len({(task.item_id, task.systems[0]) for task in marked}),
        len(marked),
        len(counted) - len(marked),
    )


def _list_marked_texts(
    round: Round, marked: Sequence[AssignedTask], items: Sequence[RoundItem]
) -> Iterator[MarkedText]:
    """Yield the marked texts that aren't empty. Each answer to an item is a separate text."""
    by_id, names = {item.item_id: item for item in items}, assign_rater_names(marked)
    for task in marked:
        text = find_judged_text(round.config.get("subject", "answer"), by_id[task.item_id], task.systems)
        if text:
            spans = get_task_answer(task)["spans"]
            yield MarkedText(
                task.item_id, task.systems[0], names[task.person_id], len(text),
                tuple(LabelledSpan(span["start"], span["end"], span["label"]) for span in spans),
            )  # fmt: skip
