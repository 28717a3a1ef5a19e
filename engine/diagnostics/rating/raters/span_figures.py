"""What people's spans come to: how many of each label, and how far people agree on where they are. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engine.diagnostics.rating.raters.alpha import Alpha
from engine.diagnostics.rating.raters.set_alpha import LabelledSpan, MarkedText, mark_alpha
from engine.diagnostics.rating.raters.span_match import SpanMatch, span_matches
from engine.diagnostics.rating.rows.judged_text import judged_text
from engine.diagnostics.rating.rows.of_round import answer_of, rater_names
from engine.diagnostics.statistics.statistics import Interval
from store.documents.rating.round import DealtTask, Round, RoundItem


class SpansOfLabel(NamedTuple):
    """How often a label was marked, and in how many texts."""

    label: str
    spans: int
    texts: int


@dataclass(frozen=True)
class SpanFigures:
    """match: F1 of exact spans over all pairs of raters; pairs: of each two."""

    labels: list[SpansOfLabel]
    alpha: Alpha
    match: Interval
    pairs: list[SpanMatch]
    texts: int
    ratings: int
    skipped: int


def span_figures(
    round: Round, tasks: Sequence[DealtTask], items: Sequence[RoundItem], left_out: Collection[str] = ()
) -> SpanFigures:
    """left_out: ids of raters who don't count."""
    counted = [
        task
        for task in tasks
        if task["answer"]
        and task["purpose"] in ("first", "adjudication")
        and task["person_id"] not in left_out
    ]
    marked = [task for task in counted if "spans" in answer_of(task)]
    labels: Counter[str] = Counter()
    texts_of: dict[str, set[tuple[int, int]]] = {}
    for task in marked:
        for span in answer_of(task)["spans"]:
            labels[span["label"]] += 1
            texts_of.setdefault(span["label"], set()).add((task["item_id"], task["systems"][0]))
    texts = list(_marked_texts(round, [task for task in marked if task["purpose"] == "first"], items))
    weights = {item["item_id"]: item["weight"] for item in items}
    match, pairs = span_matches(texts, weights)
    return SpanFigures(
        [SpansOfLabel(label, count, len(texts_of[label])) for label, count in labels.most_common()],
        mark_alpha(texts, weights),
        match,
        pairs,
        len({(task["item_id"], task["systems"][0]) for task in marked}),
        len(marked),
        len(counted) - len(marked),
    )


def _marked_texts(
    round: Round, marked: Sequence[DealtTask], items: Sequence[RoundItem]
) -> Iterator[MarkedText]:
    """Those that have a character. A text of its own is each answer to an item."""
    by_id, names = {item["item_id"]: item for item in items}, rater_names(marked)
    for task in marked:
        text = judged_text(round["config"].get("subject", "answer"), by_id[task["item_id"]], task["systems"])
        if text:
            spans = answer_of(task)["spans"]
            yield MarkedText(
                task["item_id"], task["systems"][0], names[task["person_id"]], len(text),
                tuple(LabelledSpan(span["start"], span["end"], span["label"]) for span in spans),
            )  # fmt: skip
