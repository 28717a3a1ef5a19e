"""What a round came to, all of it in sentences, for its report and the command line: comparisons, labels,
spans, texts.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from engine.evaluation.statistics.intervals import Interval
from engine.rating import raters_text, results_text
from engine.rating.analysis.agreement import kappas
from engine.rating.analysis.comparisons import Comparisons
from engine.rating.analysis.krippendorff_alpha import outcome_alpha, pass_alpha, rank_alpha, score_alpha
from engine.rating.analysis.labels import (
    LabelFigures,
    LabelSetFigures,
    OneLabel,
    VersionAccuracy,
    label_figures,
    label_set_figures,
    served_labels,
)
from engine.rating.analysis.model_comparison import MAX_PAIRS, Comparing, best_two, compare
from engine.rating.analysis.rater_reliability import RaterProfile, profiles
from engine.rating.analysis.rates import both_bad_rate, pass_rates, position, win_rates
from engine.rating.analysis.round_ratings import RoundRatings, answer_of
from engine.rating.analysis.spans import SpanFigures, SpansOfLabel, span_figures
from engine.rating.raters_text import alpha_line
from engine.rating.results_text import number_text, share_text
from store.core import formatting
from store.core.rating_schemas import DealtTask, Round, RoundItem, RoundRequest


class RoundSentences(NamedTuple):
    """verdict: the headline first."""

    verdict: list[str]
    agreement: list[str]
    raters: list[str]


def round_sentences(ratings: RoundRatings, compared: Comparing | None = None) -> RoundSentences:
    """Of any protocol; of one without figures, or without ratings, that it has none. compared: of these
    ratings, where it is there already."""
    comparisons, scores, passes = ratings.comparisons, ratings.scores, ratings.passes
    if comparisons is not None and len(comparisons):
        alpha = outcome_alpha(comparisons) if ratings.ranks is None else rank_alpha(ratings.ranks)
        alphas = [raters_text.alpha_line(alpha)]
        pairs = raters_text.kappa_lines(kappas(comparisons, most=MAX_PAIRS))
        compared = compared or compare(comparisons)
        verdict = [] if compared is None else _compared(comparisons, compared)
        return RoundSentences(verdict, [*alphas, *pairs], _raters(profiles(comparisons)))
    if scores is not None and len(scores):
        lines = [*results_text.difference_lines(ratings), *results_text.mean_lines(ratings)]
        agreement = [
            f"{name}: {raters_text.alpha_line(score_alpha(scores, name))}" for name in scores.criteria
        ]
        return RoundSentences(lines, agreement, [])
    if passes is not None and len(passes):
        rates = [results_text.pass_line(name, rate) for name, rate in pass_rates(passes).items()]
        return RoundSentences(rates, [raters_text.alpha_line(pass_alpha(passes))], [])
    return RoundSentences(["Nothing was rated of which there are figures."], [], [])


def win_lines(comparisons: Comparisons, names: Sequence[str]) -> list[str]:
    """Wins, ties and losses of these systems, of two by the other one's name; and how often both are bad."""
    every = comparisons.systems
    others = dict(zip(every, every[::-1], strict=True)) if len(every) == 2 else {}
    lines = [
        results_text.win_rate_line(name, win_rates(comparisons, name), others.get(name, "the others"))
        for name in names
    ]
    return [*lines, results_text.both_bad_line(both_bad_rate(comparisons))]


def _compared(comparisons: Comparisons, compared: Comparing) -> list[str]:
    plain = compared.plain
    lines = results_text.strengths_lines(plain)
    first_ones = sorted(plain.order[:MAX_PAIRS])  # in the order of the round
    lines += win_lines(comparisons, [plain.systems[place] for place in first_ones])
    best = best_two(plain)
    if compared.equal is not None and best is not None:
        equal = compared.equal.difference(best.first, best.second)
        lines.append(results_text.held_equal_line(best, equal, " and ".join(comparisons.covariates)))
    if comparisons.differences is not None:  # of ranks the sides mean nothing
        lines.append(results_text.position_line(position(comparisons)))
    return lines


def _raters(profiles: Sequence[RaterProfile]) -> list[str]:
    """All of a few; of many those against whom something speaks, and how many there are."""
    listed = [profile for profile in profiles if profile.suspect or len(profiles) <= MAX_PAIRS]
    lines = [line for profile in listed for line in raters_text.rater_lines(profile)]
    if len(listed) < len(profiles):
        rest = formatting.plural(len(profiles) - len(listed), "rater")
        lines.append(f"Nothing speaks against the ratings of {rest} of {len(profiles):,}.")
    return lines


HARD = "chosen because they are hard: no figure of all requests"


def settled_line(figures: LabelFigures) -> str:
    """How many texts have a label by now."""
    settled, disputed = len(figures.majority), len(figures.disputed)
    line = f"{formatting.plural(settled, 'text')} of {settled + disputed:,} have a label"
    line += f" by {formatting.plural(figures.ratings, 'rating')}"
    return f"{line}; on {disputed:,} people part." if disputed else f"{line}."


def version_line(accuracy: VersionAccuracy) -> str:
    """How often a version gave the label of people."""
    share, parts = accuracy.random, []
    if share.n and not math.isnan(share.value):
        texts = formatting.plural(share.n, "text")
        parts.append(f"gave people's label to {share_text(share)} of {texts} drawn at random")
        if accuracy.unsettled:
            parts[-1] += (
                f" ({accuracy.unsettled:,} unsettled, which the interval counts as wrong and as right)"
            )
    else:
        parts.append("can't be judged: none of its texts was drawn at random")
    if accuracy.telling:
        parts.append(f"and to {accuracy.telling_right:,} of {accuracy.telling:,} {HARD}")
    return f"{accuracy.version} {', '.join(parts)}."


def label_sentences(figures: LabelFigures) -> RoundSentences:
    """All that is said of a round of labels."""
    if not figures.ratings:
        return RoundSentences(["Everything in this round was skipped, or its raters are left out."], [], [])
    versions = [version_line(each) for each in figures.accuracy]
    return RoundSentences([settled_line(figures), *versions], people_lines(figures), [])


def people_lines(figures: LabelFigures) -> list[str]:
    """Whether people agree, and each with themselves."""
    lines = [alpha_line(figures.alpha)]
    if figures.same_again.n:
        again = formatting.plural(figures.same_again.n, "text")
        lines.append(f"Of {again} that came again {share_text(figures.same_again)} got the same label.")
    return lines


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
    return RoundSentences([settled_label_sets_line(figures)], [*label_set_people(figures), *labels], [])


def settled_label_sets_line(figures: LabelSetFigures) -> str:
    """How many texts have their labels by now."""
    settled, disputed = len(figures.settled), len(figures.disputed)
    line = f"{formatting.plural(settled, 'text')} of {settled + disputed:,} have their labels by"
    line += f" {formatting.plural(figures.ratings, 'rating')}"
    return f"{line}; of {disputed:,} a label is undecided, half against half." if disputed else f"{line}."


def label_set_people(figures: LabelSetFigures) -> list[str]:
    """Whether people give the same sets, and each the same again."""
    lines = [f"Of whole sets of labels (MASI distance): {alpha_line(figures.alpha)}"]
    if (again := figures.same_again) is not None:
        texts = formatting.plural(again.n, "text")
        lines.append(f"Of {texts} that came again {share_text(again)} got the very same labels.")
    return lines


def label_line(label: OneLabel) -> str:
    """Whether people agree on when to give one label."""
    assert label.alpha is not None
    return f"{label.label}, {formatting.plural(label.texts, 'text')}: {alpha_line(label.alpha)}"


def span_sentences(figures: SpanFigures) -> RoundSentences:
    """How much was marked, and whether people mark the same."""
    if not figures.ratings:
        return RoundSentences([NOTHING], [], [])
    return RoundSentences(
        [marked_line(figures), *(spans_line(each) for each in figures.labels)], span_people(figures), []
    )


def marked_line(figures: SpanFigures) -> str:
    """How many spans in how many texts."""
    spans = formatting.plural(sum(each.spans for each in figures.labels), "span")
    texts, ratings = (
        formatting.plural(figures.texts, "text"),
        formatting.plural(figures.ratings, "rating"),
    )
    return f"{spans} marked in {texts} by {ratings}."


def spans_line(label: SpansOfLabel) -> str:
    """Of one label."""
    spans, texts = (
        formatting.plural(label.spans, "span"),
        formatting.plural(label.texts, "text"),
    )
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
    texts = formatting.plural(match.n, "text")
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
    answers = formatting.plural(len(written), "answer")
    raters = formatting.plural(len({task["person_id"] for task in written}), "rater")
    words = sorted(len(answer_of(task)["written"].split()) for task in written)
    return (
        f"{answers} in words by {raters}, {formatting.plural(words[len(words) // 2], 'word')} in the median."
    )
