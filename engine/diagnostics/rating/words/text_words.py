"""What is said of rounds in which people say something of texts: give them labels, mark them, write of them.
Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from engine.diagnostics import phrasing
from engine.diagnostics.rating.raters.label_figures import label_figures, served_labels
from engine.diagnostics.rating.raters.label_sets import LabelSetFigures, OneLabel, label_set_figures
from engine.diagnostics.rating.raters.span_figures import SpanFigures, SpansOfLabel, span_figures
from engine.diagnostics.rating.rows.of_round import answer_of
from engine.diagnostics.rating.words.agreement_words import alpha_line
from engine.diagnostics.rating.words.label_words import label_sentences
from engine.diagnostics.rating.words.rating_words import number_text, share_text
from engine.diagnostics.rating.words.round_words import RoundSentences
from engine.diagnostics.statistics.statistics import Interval
from store.documents.rating.round import DealtTask, Round, RoundItem, RoundRequest

NOTHING = "Everything in this round was skipped, or its raters are left out."


TEXTS = ("label", "spans", "free_text")  # protocols whose ratings are texts: of them no table of figures


def text_sentences(
    round: Round,
    tasks: Sequence[DealtTask],
    items: Sequence[RoundItem],
    requests: Sequence[RoundRequest],
    weights: Mapping[int, float],
    left_out: Collection[str] = (),
) -> RoundSentences | None:
    """Of a round of labels, spans or free text; None for other protocols. weights: as `chance_weights` has
    them."""
    if round["protocol"] == "spans":
        return span_sentences(span_figures(round, tasks, items, left_out))
    if round["protocol"] == "free_text":
        return written_sentences(written_tasks(tasks, left_out))
    if round["protocol"] != "label":
        return None
    if round["config"].get("several_labels"):
        return label_set_sentences(
            label_set_figures(round["config"].get("labels", []), tasks, weights, left_out)
        )
    served = served_labels(round, items, requests)
    return label_sentences(label_figures(tasks, served, weights, left_out))


def label_set_sentences(figures: LabelSetFigures) -> RoundSentences:
    """Which labels texts have, and whether people agree."""
    if not figures.ratings:
        return RoundSentences([NOTHING], [], [])
    labels = [label_line(each) for each in figures.labels if each.alpha]
    return RoundSentences([settled_line(figures)], [*label_set_people(figures), *labels], [])


def settled_line(figures: LabelSetFigures) -> str:
    """How many texts have their labels by now."""
    settled, disputed = len(figures.settled), len(figures.disputed)
    line = f"{phrasing.plural(settled, 'text')} of {settled + disputed:,} have their labels by"
    line += f" {phrasing.plural(figures.ratings, 'rating')}"
    return f"{line}; of {disputed:,} a label is undecided, half against half." if disputed else f"{line}."


def label_set_people(figures: LabelSetFigures) -> list[str]:
    """Whether people give the same sets, and each the same again."""
    lines = [f"Of whole sets of labels (MASI distance): {alpha_line(figures.alpha)}"]
    if (again := figures.same_again) is not None:
        texts = phrasing.plural(again.n, "text")
        lines.append(f"Of {texts} that came again {share_text(again)} got the very same labels.")
    return lines


def label_line(label: OneLabel) -> str:
    """Whether people agree on when to give one label."""
    assert label.alpha is not None
    return f"{label.label}, {phrasing.plural(label.texts, 'text')}: {alpha_line(label.alpha)}"


def span_sentences(figures: SpanFigures) -> RoundSentences:
    """How much was marked, and whether people mark the same."""
    if not figures.ratings:
        return RoundSentences([NOTHING], [], [])
    return RoundSentences(
        [marked_line(figures), *(spans_line(each) for each in figures.labels)], span_people(figures), []
    )


def marked_line(figures: SpanFigures) -> str:
    """How many spans in how many texts."""
    spans = phrasing.plural(sum(each.spans for each in figures.labels), "span")
    texts, ratings = phrasing.plural(figures.texts, "text"), phrasing.plural(figures.ratings, "rating")
    return f"{spans} marked in {texts} by {ratings}."


def spans_line(label: SpansOfLabel) -> str:
    """Of one label."""
    spans, texts = phrasing.plural(label.spans, "span"), phrasing.plural(label.texts, "text")
    return f"{label.label}: {spans} in {texts}."


def span_people(figures: SpanFigures) -> list[str]:
    """Character by character beyond chance, then the share of spans that are exactly the same."""
    lines = [
        f"Character by character, each text counting the same: {alpha_line(figures.alpha)}",
        match_line("All raters", figures.match),
    ]
    if len(figures.pairs) > 1:
        lines += [match_line(f"{pair.first} and {pair.second}", pair.interval) for pair in figures.pairs]
    return lines


def match_line(who: str, match: Interval) -> str:
    """How often the very same span was marked; for these raters, as texts alone vary."""
    if math.isnan(match.value):
        return f"{who}: how often the very same spans are marked can't be told: {match.why}."
    texts = phrasing.plural(match.n, "text")
    f1 = f"F1 of spans that match exactly {number_text(match)}"
    return f"{who}: {f1}, over {texts} with a span, of these raters."


def written_tasks(tasks: Sequence[DealtTask], left_out: Collection[str] = ()) -> list[DealtTask]:
    """Those answered in words, without raters that are left out."""
    return [
        task
        for task in tasks
        if "written" in answer_of(task)
        and task["purpose"] in ("first", "adjudication")
        and task["person_id"] not in left_out
    ]


def written_sentences(written: Sequence[DealtTask]) -> RoundSentences:
    """How much was written: what it says no figure tells."""
    if not written:
        return RoundSentences([NOTHING], [], [])
    return RoundSentences([written_line(written)], [], [])


def written_line(written: Sequence[DealtTask]) -> str:
    """By how many people, and how long."""
    answers = phrasing.plural(len(written), "answer")
    raters = phrasing.plural(len({task["person_id"] for task in written}), "rater")
    words = sorted(len(answer_of(task)["written"].split()) for task in written)
    return f"{answers} in words by {raters}, {phrasing.plural(words[len(words) // 2], 'word')} in the median."
