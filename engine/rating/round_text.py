"""Describe all results of a round in sentences, for its report and the command line.

Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from engine.evaluation.statistics.intervals import Interval
from engine.rating import raters_text, results_text
from engine.rating.analysis.agreement import compute_kappas
from engine.rating.analysis.comparisons import Comparisons
from engine.rating.analysis.krippendorff_alpha import (
    compute_outcome_alpha,
    compute_pass_alpha,
    compute_rank_alpha,
    compute_score_alpha,
)
from engine.rating.analysis.labels import (
    LabelSetStatistics,
    LabelStatistics,
    LabelUsage,
    VersionAccuracy,
    compute_label_set_statistics,
    compute_label_statistics,
    list_served_labels,
)
from engine.rating.analysis.model_comparison import MAX_PAIRS, ModelComparison, compare, find_best_two
from engine.rating.analysis.rater_reliability import RaterProfile, profile_raters
from engine.rating.analysis.rates import (
    compute_both_bad_rate,
    compute_pass_rates,
    compute_win_rates,
    measure_position_effect,
)
from engine.rating.analysis.round_ratings import RoundRatings, get_task_answer
from engine.rating.analysis.spans import SpanLabelCounts, SpanStatistics, compute_span_statistics
from engine.rating.raters_text import describe_alpha
from engine.rating.results_text import format_number, format_share
from store.core import formatting
from store.core.rating_schemas import AnsweredTask, AssignedTask, Round, RoundItem, RoundRequest


class RoundDescription(NamedTuple):
    """Sentences about a round; `verdict` starts with the headline."""

    verdict: list[str]
    agreement: list[str]
    raters: list[str]


def summarize_round(ratings: RoundRatings, compared: ModelComparison | None = None) -> RoundDescription:
    """Summarize a round of comparisons, scores or passes, or say that there are no ratings.

    `compared` is the comparison of these ratings, if already computed.
    """
    comparisons, scores, passes = ratings.comparisons, ratings.scores, ratings.passes
    if comparisons is not None and len(comparisons):
        alpha = (
            compute_outcome_alpha(comparisons) if ratings.ranks is None else compute_rank_alpha(ratings.ranks)
        )
        alphas = [raters_text.describe_alpha(alpha)]
        pairs = raters_text.describe_kappas(compute_kappas(comparisons, most=MAX_PAIRS))
        compared = compared or compare(comparisons)
        verdict = [] if compared is None else _describe_comparison(comparisons, compared)
        return RoundDescription(verdict, [*alphas, *pairs], _describe_raters(profile_raters(comparisons)))
    if scores is not None and len(scores):
        lines = [*results_text.describe_differences(ratings), *results_text.describe_means(ratings)]
        agreement = [
            f"{name}: {raters_text.describe_alpha(compute_score_alpha(scores, name))}"
            for name in scores.criteria
        ]
        return RoundDescription(lines, agreement, [])
    if passes is not None and len(passes):
        rates = [
            results_text.describe_pass_rate(name, rate) for name, rate in compute_pass_rates(passes).items()
        ]
        return RoundDescription(rates, [raters_text.describe_alpha(compute_pass_alpha(passes))], [])
    return RoundDescription(["No ratings to summarize."], [], [])


def describe_wins(comparisons: Comparisons, names: Sequence[str]) -> list[str]:
    """Describe wins, ties and losses of these systems, and how often both answers are bad.

    With two systems, the opponent is named.
    """
    every = comparisons.systems
    others = dict(zip(every, every[::-1], strict=True)) if len(every) == 2 else {}
    lines = [
        results_text.describe_win_rates(
            name, compute_win_rates(comparisons, name), others.get(name, "the others")
        )
        for name in names
    ]
    return [*lines, results_text.describe_both_bad_rate(compute_both_bad_rate(comparisons))]


def _describe_comparison(comparisons: Comparisons, compared: ModelComparison) -> list[str]:
    plain = compared.plain
    lines = results_text.describe_strengths(plain)
    first_ones = sorted(plain.order[:MAX_PAIRS])  # in the round's order
    lines += describe_wins(comparisons, [plain.systems[place] for place in first_ones])
    best = find_best_two(plain)
    if compared.equal is not None and best is not None:
        equal = compared.equal.difference(best.first, best.second)
        lines.append(
            results_text.describe_adjusted_difference(best, equal, " and ".join(comparisons.covariates))
        )
    if comparisons.differences is not None:  # sides have no meaning in rankings
        lines.append(results_text.describe_position_effect(measure_position_effect(comparisons)))
    return lines


def _describe_raters(profiles: Sequence[RaterProfile]) -> list[str]:
    """Describe all raters if there are few; otherwise only suspect ones, and the number of the others."""
    listed = [profile for profile in profiles if profile.suspect or len(profiles) <= MAX_PAIRS]
    lines = [line for profile in listed for line in raters_text.describe_rater(profile)]
    if len(listed) < len(profiles):
        rest = formatting.plural(len(profiles) - len(listed), "rater")
        lines.append(f"No problems found in the ratings of {rest} of {len(profiles):,}.")
    return lines


CHOSEN_AS_HARD = "selected because they are hard: not used for figures about all requests"


def describe_settled_texts(figures: LabelStatistics) -> str:
    """Describe how many texts have a majority label."""
    settled, disputed = len(figures.majority), len(figures.disputed)
    line = f"{formatting.plural(settled, 'text')} of {settled + disputed:,} have a label"
    line += f" by {formatting.plural(figures.ratings, 'rating')}"
    return f"{line}; raters disagree on {disputed:,}." if disputed else f"{line}."


def describe_version_accuracy(accuracy: VersionAccuracy) -> str:
    """Describe how often a version gave people's label."""
    share, parts = accuracy.random, []
    if share.n and not math.isnan(share.value):
        texts = formatting.plural(share.n, "text")
        parts.append(f"matches the raters' label on {format_share(share)} of {texts} sampled at random")
        if accuracy.unsettled:
            parts[-1] += (
                f" ({accuracy.unsettled:,} unsettled, which the interval counts as wrong and as right)"
            )
    else:
        parts.append("can't be judged: none of its texts was sampled at random")
    if accuracy.telling:
        parts.append(f"and on {accuracy.telling_right:,} of {accuracy.telling:,} {CHOSEN_AS_HARD}")
    return f"{accuracy.version} {', '.join(parts)}."


def summarize_labels(figures: LabelStatistics) -> RoundDescription:
    """Summarize the statistics of a round of labels."""
    if not figures.ratings:
        return RoundDescription(
            ["No ratings to count: every item was skipped, or its raters are excluded."], [], []
        )
    versions = [describe_version_accuracy(each) for each in figures.accuracy]
    return RoundDescription(
        [describe_settled_texts(figures), *versions], describe_people_agreement(figures), []
    )


def describe_people_agreement(figures: LabelStatistics) -> list[str]:
    """Describe whether people agree with each other, and with themselves."""
    lines = [describe_alpha(figures.alpha)]
    if figures.same_again.n:
        again = formatting.plural(figures.same_again.n, "text")
        lines.append(f"Of {again} shown again, {format_share(figures.same_again)} got the same label.")
    return lines


NOTHING_RATED = "No ratings to count: every item was skipped, or its raters are excluded."


TEXT_PROTOCOLS = (
    "label",
    "spans",
    "free_text",
)  # protocols with text ratings, which have no table of numbers


def summarize_text_round(
    round: Round,
    tasks: Sequence[AssignedTask],
    items: Sequence[RoundItem],
    requests: Sequence[RoundRequest],
    weights: Mapping[int, float],
    left_out: Collection[str] = (),
) -> RoundDescription | None:
    """Summarize a round of labels, spans or free text; None for other protocols.

    `weights` are those of `compute_sampling_weights`.
    """
    if round.protocol == "spans":
        return summarize_spans(compute_span_statistics(round, tasks, items, left_out))
    if round.protocol == "free_text":
        return summarize_written(list_written_tasks(tasks, left_out))
    if round.protocol != "label":
        return None
    if round.config.get("several_labels"):
        return summarize_label_sets(
            compute_label_set_statistics(round.config.get("labels", []), tasks, weights, left_out)
        )
    return summarize_single_labels(round, tasks, items, requests, weights, left_out)


def summarize_single_labels(
    round: Round,
    tasks: Sequence[AnsweredTask],
    items: Sequence[RoundItem],
    requests: Sequence[RoundRequest],
    weights: Mapping[int, float],
    left_out: Collection[str] = (),
) -> RoundDescription:
    """Summarize a round with one label per text; weights as for `summarize_text_round`."""
    served = list_served_labels(round, items, requests)
    return summarize_labels(compute_label_statistics(tasks, served, weights, left_out))


def summarize_label_sets(figures: LabelSetStatistics) -> RoundDescription:
    """Summarize a round of label sets."""
    if not figures.ratings:
        return RoundDescription([NOTHING_RATED], [], [])
    labels = [describe_label_agreement(each) for each in figures.labels if each.alpha]
    return RoundDescription(
        [describe_settled_label_sets(figures)], [*describe_label_set_agreement(figures), *labels], []
    )


def describe_settled_label_sets(figures: LabelSetStatistics) -> str:
    """Describe how many texts have settled label sets."""
    settled, disputed = len(figures.settled), len(figures.disputed)
    line = f"{formatting.plural(settled, 'text')} of {settled + disputed:,} have their labels by"
    line += f" {formatting.plural(figures.ratings, 'rating')}"
    return f"{line}; {disputed:,} have a label that is tied." if disputed else f"{line}."


def describe_label_set_agreement(figures: LabelSetStatistics) -> list[str]:
    """Describe whether people give the same sets, and repeat their own."""
    lines = [f"For whole sets of labels (MASI distance): {describe_alpha(figures.alpha)}"]
    if (again := figures.same_again) is not None:
        texts = formatting.plural(again.n, "text")
        lines.append(f"Of {texts} shown again, {format_share(again)} got exactly the same labels.")
    return lines


def describe_label_agreement(label: LabelUsage) -> str:
    """Describe whether people agree on one label."""
    assert label.alpha is not None
    return f"{label.label}, {formatting.plural(label.texts, 'text')}: {describe_alpha(label.alpha)}"


def summarize_spans(figures: SpanStatistics) -> RoundDescription:
    """Summarize a round of spans."""
    if not figures.ratings:
        return RoundDescription([NOTHING_RATED], [], [])
    return RoundDescription(
        [describe_marked_texts(figures), *(describe_spans_of_label(each) for each in figures.labels)],
        describe_span_agreement(figures),
        [],
    )


def describe_marked_texts(figures: SpanStatistics) -> str:
    """Describe how many spans were marked in how many texts."""
    spans = formatting.plural(sum(each.spans for each in figures.labels), "span")
    texts, ratings = (
        formatting.plural(figures.texts, "text"),
        formatting.plural(figures.ratings, "rating"),
    )
    return f"{spans} marked in {texts} by {ratings}."


def describe_spans_of_label(label: SpanLabelCounts) -> str:
    """Describe the number of spans and texts of a label."""
    spans, texts = (
        formatting.plural(label.spans, "span"),
        formatting.plural(label.texts, "text"),
    )
    return f"{label.label}: {spans} in {texts}."


def describe_span_agreement(figures: SpanStatistics) -> list[str]:
    """Describe agreement by character beyond chance, then exact span matches."""
    lines = [
        f"Character by character, each text counting the same: {describe_alpha(figures.alpha)}",
        describe_span_match("All raters", figures.match),
    ]
    if len(figures.pairs) > 1:
        lines += [
            describe_span_match(f"{pair.first} and {pair.second}", pair.interval) for pair in figures.pairs
        ]
    return lines


def describe_span_match(who: str, match: Interval) -> str:
    """Describe how often exactly the same span was marked, for these raters, as only texts are resampled."""
    if math.isnan(match.value):
        return f"{who}: exact span agreement can't be determined: {match.why}."
    texts = formatting.plural(match.n, "text")
    f1 = f"F1 of exact span matches {format_number(match)}"
    return f"{who}: {f1}, over {texts} with a span, of these raters."


def list_written_tasks(tasks: Sequence[AssignedTask], left_out: Collection[str] = ()) -> list[AssignedTask]:
    """Return tasks with free-text answers, without those of excluded raters."""
    return [
        task
        for task in tasks
        if "written" in get_task_answer(task)
        and task.purpose in ("first", "adjudication")
        and task.person_id not in left_out
    ]


def summarize_written(written: Sequence[AssignedTask]) -> RoundDescription:
    """Summarize how much was written; the content has no statistics."""
    if not written:
        return RoundDescription([NOTHING_RATED], [], [])
    return RoundDescription([describe_written(written)], [], [])


def describe_written(written: Sequence[AssignedTask]) -> str:
    """Describe the number of answers and raters, and the median length."""
    answers = formatting.plural(len(written), "answer")
    raters = formatting.plural(len({task.person_id for task in written}), "rater")
    words = sorted(len(get_task_answer(task)["written"].split()) for task in written)
    return f"{answers} in free text by {raters}, median {formatting.plural(words[len(words) // 2], 'word')}."
