"""Describe a round's results in sentences: which model is better and by how much, side effects, scores, and
ratings still needed.

Every sentence has its interval and n, and says why if something can't be determined. Strengths are given
as the share of decided ratings that a system would win. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

from scipy import special

from engine.evaluation.statistics.clustered import MIN_RATERS
from engine.evaluation.statistics.intervals import Interval
from engine.rating.analysis.model_comparison import EQUAL_WITHIN, MAX_PAIRS, Peek, RankedSystem, RatingsNeeded
from engine.rating.analysis.rates import (
    CriterionScores,
    PositionEffect,
    WinRates,
    compute_criterion_differences,
    compute_criterion_means,
    count_fewest_raters,
)
from engine.rating.analysis.round_ratings import RoundRatings
from engine.rating.analysis.strengths import Coefficient, StrengthDifference, Strengths
from store.core import formatting

MAX_NAMES = 8  # names in one sentence


def format_share(share: Interval) -> str:
    """Format a share as "68% (57 to 78%)", or with the reason why it has no interval."""
    if math.isnan(share.value):
        return f"no share ({share.why})"
    if share.low is None or share.high is None:
        return f"{formatting.percent(share.value)} (no interval: {share.why})"
    estimate = share.to_estimate()
    return f"{formatting.format_share(estimate)} ({formatting.format_share_bounds(estimate)})"


def format_number(at: Interval) -> str:
    """Format a number as "0.31 (0.12 to 0.50)", or with the reason why it has no interval."""
    if math.isnan(at.value):
        return f"can't be determined ({at.why})"
    if at.low is None or at.high is None:
        return f"{formatting.format_number(at.value, 2)} (no interval: {at.why})"
    value = formatting.format_number(at.value, formatting.compute_decimals(at.low, at.high))
    return f"{value} ({formatting.format_interval(at.low, at.high)})"


def format_rank(ranked: RankedSystem) -> str:
    """Format a rank range as "3 to 9", or a single rank."""
    return str(ranked.best) if ranked.best == ranked.worst else f"{ranked.best} to {ranked.worst}"


def join_names(names: Sequence[str]) -> str:
    """Join names as "A, B and C"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def join_some_names(names: Sequence[str]) -> str:
    """Join names, abbreviating many as "A, B and 47 others"."""
    if len(names) <= MAX_NAMES:
        return join_names(names)
    return join_names([*names[: MAX_NAMES - 1], f"{len(names) - MAX_NAMES + 1:,} others"])


def describe_strengths(strengths: Strengths) -> list[str]:
    """Describe strengths: a headline, other pairs that differ clearly, and caveats."""
    if len(strengths.systems) < 2:
        return ["There is nothing to compare: the round has only one system."]
    if not strengths.n:
        bad = f", as both were bad in all {strengths.left_out:,}" if strengths.left_out else ""
        return [f"Which is better can't be determined: there are no comparisons{bad}."]
    lines = [_format_headline(strengths)]
    if len(strengths.systems) > 2:
        lines += _describe_lower_pairs(strengths)
    return lines + describe_caveats(strengths)


def _format_headline(strengths: Strengths) -> str:
    names = [strengths.systems[place] for place in strengths.order]
    if len(names) == 2:
        return describe_difference(strengths.difference(names[0], names[1]))
    pairs = [strengths.difference(names[0], other) for other in names[1:]]
    beaten = [pair.second for pair in pairs if pair.verdict == "better"]
    if len(beaten) == len(pairs):
        return f"{names[0]} is better than each of the others: {join_some_names(beaten)}."
    open_still = [pair.second for pair in pairs if pair.verdict == "unclear"]
    apart = [pair.second for pair in pairs if pair.verdict == "none"]
    if not beaten and not apart and all(pair.interval.why for pair in pairs):
        return f"Which is best can't be determined: {pairs[0].interval.why}."
    lead = f"{names[0]} ranks first"
    clauses = []
    if beaten:
        clauses.append(f"it is better than {join_some_names(beaten)}")
    if open_still:
        clauses.append(f"it shows no clear difference from {join_some_names(open_still)} yet")
    if apart:
        clauses.append(f"it can't be compared with {join_some_names(apart)}")
    return f"{lead}: {'; '.join(clauses)}."


def _describe_lower_pairs(strengths: Strengths) -> list[str]:
    """Describe the pairs that differ clearly, strongest first; only their number if there are many."""
    names = [strengths.systems[place] for place in strengths.order]
    pairs = [strengths.difference(a, b) for k, a in enumerate(names) for b in names[k + 1 :]]
    apart = [pair for pair in pairs if pair.verdict in ("better", "worse")]
    if len(apart) <= MAX_PAIRS:
        return [describe_difference(pair) for pair in apart]
    return [f"{len(apart):,} of {formatting.plural(len(pairs), 'pair')} differ clearly."]


def describe_caveats(strengths: Strengths) -> list[str]:
    """Describe what the intervals generalize to, what was left out, and what can't be compared."""
    lines = []
    has_interval = any(not pair.interval.why for pair in strengths.differences)
    if strengths.over == "items" and has_interval:
        who = "this one rater" if strengths.raters == 1 else f"these {strengths.raters} raters"
        lines.append(f"This holds for {who} only: too few to generalize to others.")
    if strengths.left_out:
        were = "was" if strengths.left_out == 1 else "were"
        bad = formatting.plural(strengths.left_out, "rating")
        lines.append(f"{bad} that both are bad {were} left out: this is not a tie.")
    if strengths.soft:
        votes = formatting.plural(strengths.soft, "vote")
        lines.append(
            f"{votes} {'says' if strengths.soft == 1 else 'say'} how sure they are, so each counts partly "
            "for both answers."
        )
    if len(strengths.groups) > 1:
        groups = "; ".join(join_some_names(group) for group in strengths.groups[:MAX_NAMES])
        if len(strengths.groups) > MAX_NAMES:
            groups += f"; and {formatting.plural(len(strengths.groups) - MAX_NAMES, 'more group')}"
        lines.append(f"Not all systems are connected by comparisons: {groups}.")
    return lines


def describe_difference(pair: StrengthDifference) -> str:
    """Describe which of two systems is better, or that it is unclear."""
    if pair.verdict == "worse":
        return describe_difference(pair.turned())
    first, second, at = pair.first, pair.second, pair.interval
    if pair.verdict == "none":
        return f"{first} and {second} can't be compared: {at.why}."
    if at.why:
        return f"{first} and {second} show no clear difference: {at.why}."
    n = formatting.plural(at.n, "rating")
    if pair.unbounded:
        return _describe_one_sided_difference(pair, n)
    wins = f"would win {format_share(pair.share)} of decided ratings ({n})"
    if pair.verdict == "better":
        return f"{first} is better than {second}: it {wins}."
    return f"{first} and {second} show no clear difference yet: {first} {wins}."


def _describe_one_sided_difference(pair: StrengthDifference, n: str) -> str:
    """Describe a pair of which one system won every relevant comparison."""
    winner, share = pair.first, pair.share
    if pair.unbounded == "below":
        winner, share = pair.second, pair.turned().share
    lead = f"{pair.first} is better than {pair.second}"
    if pair.verdict != "better":
        lead = f"{pair.first} and {pair.second} show no clear difference yet"
    least = formatting.percent(share.low or 0.0)
    return (
        f"{lead}: {winner} would win {least} or more of decided ratings ({n}). It won every relevant "
        "comparison, so its lead has no upper bound."
    )


def describe_adjusted_difference(plain: StrengthDifference, equal: StrengthDifference, held: str) -> str:
    """Describe whether a difference remains once `held` (such as "length") is held equal; both are of the
    same pair.
    """
    if plain.verdict == "worse":
        return describe_adjusted_difference(plain.turned(), equal.turned(), held)
    first, second = equal.first, equal.second
    held_equal = f"{held} {'are' if ' and ' in held else 'is'} held equal"
    if equal.verdict == "none" or equal.interval.why:
        return f"Which is better once {held_equal} can't be determined: {equal.interval.why}."
    share = f"would win {format_share(equal.share)} of decided ratings"
    if plain.verdict == "better" and equal.verdict == "better":
        return f"{first} is still better than {second} once {held_equal}: it {share}."
    if plain.verdict == "better" and equal.verdict == "unclear":
        apart = f"{first} and {second} show no clear difference once {held_equal} ({first} {share})"
        return f"{apart}: {held} alone may explain the preference."
    if equal.verdict == "better":
        return f"Once {held_equal}, {first} is better than {second}: it {share}."
    if equal.verdict == "worse":
        turned = f"would win {format_share(equal.turned().share)} of decided ratings"
        way = "the order is reversed" if plain.verdict == "better" else f"{second} is better than {first}"
        return f"Once {held_equal}, {way}: {second} {turned}."
    return f"With {held} held equal, {first} and {second} show no clear difference either: {first} {share}."


def describe_length_effect(coefficient: Coefficient) -> str:
    """Describe the effect of twice the length, from a coefficient of the difference of log lengths."""
    leads = ("Longer answers are preferred", "Shorter answers are preferred")
    unclear = "Whether longer answers are preferred can't be determined"
    return _describe_doubling(coefficient, "length", (*leads, unclear), "twice as long")


def describe_formatting_effect(coefficient: Coefficient) -> str:
    """Describe the effect of twice the Markdown formatting.

    The coefficient is for the difference of log(1 + marks), close to doubling from a few marks on.
    """
    leads = ("More formatting is preferred", "Less formatting is preferred")
    unclear = "Whether more formatting is preferred can't be determined"
    return _describe_doubling(coefficient, "formatting", (*leads, unclear), "with twice as much")


def _describe_doubling(coefficient: Coefficient, what: str, leads: tuple[str, str, str], twice: str) -> str:
    """Describe the effect of doubling; `leads` are for more preferred, less preferred, and unclear."""
    at = coefficient.interval
    if at.low is None or at.high is None:
        return f"What {what} does can't be determined: {at.why}."
    value, low, high = (float(special.expit(end * math.log(2))) for end in (at.value, at.low, at.high))
    share = format_share(Interval(value, low, high, at.n))
    lead = leads[0] if low > 0.5 else leads[1] if high < 0.5 else leads[2]
    return f"{lead}: between equally strong systems one {twice} would win {share} of decided ratings."


def describe_win_rates(system: str, rates: WinRates, other: str = "the others") -> str:
    """Describe wins, ties, losses and "both bad", each as a share of all ratings."""
    if not rates.n:
        return f"{system} was not compared with {other}."
    bad = f"; both are bad in {format_share(rates.both_bad)}" if rates.both_bad.value else ""
    return (
        f"Against {other} {system} wins {format_share(rates.wins)}, ties {format_share(rates.ties)} and loses"
        f" {format_share(rates.losses)} of {formatting.plural(rates.n, 'rating')}{bad}."
    )


def describe_both_bad_rate(rate: Interval) -> str:
    """Describe how often both answers are bad."""
    if not rate.n:
        return "No ratings yet."
    return f"Both answers are bad in {format_share(rate)} of {formatting.plural(rate.n, 'rating')}."


def describe_position_effect(effect: PositionEffect) -> str:
    """Describe the effect of being shown on the left."""
    share = effect.share
    if not share.n:
        return "The position effect can't be determined: no rating was decided."
    if effect.why:
        return (
            f"The position effect can't be determined: {effect.why}, so it can't be separated from the "
            "answers."
        )
    lead = "Whether the side matters can't be determined"
    if share.low is not None and share.low > 0.5:
        lead = "The left side is preferred regardless of its answer"
    elif share.high is not None and share.high < 0.5:
        lead = "The right side is preferred regardless of its answer"
    decided = formatting.plural(share.n, "decided rating")
    return f"{lead}: the left one won {format_share(share)} of {decided}."


def describe_ratings_needed(first: str, second: str, more: RatingsNeeded) -> str:
    """Describe how many more ratings would show a clear difference between two systems."""
    if more.count is None:
        return f"How many more ratings {first} and {second} need can't be determined: {more.why}."
    if not more.count:
        return f"{first} and {second} can already be distinguished; no more ratings needed."
    if more.equal:
        margin = f"{formatting.percent(0.5 - EQUAL_WITHIN)} to {formatting.percent(0.5 + EQUAL_WITHIN)}"
        return f"Take {first} and {second} as equal: either would win {margin} of decided ratings."
    if more.at_least:
        return (
            f"More than {more.count:,} more ratings would be needed to distinguish {first} and {second}, if"
            " the true difference is as observed; whether they are equal can't be determined either."
        )
    return (
        f"About {more.count:,} more ratings would show a clear difference between {first} and {second} "
        "with 80% power, if the current estimate is right."
    )


def describe_peek(peek: Peek) -> str:
    """Describe whether there are enough ratings of two systems to stop; valid at any time."""
    waiting = ""
    if peek.waiting:
        lack = "lacks" if peek.waiting == 1 else "lack"
        waiting = f" ({formatting.plural(peek.waiting, 'item')} still {lack} ratings)"
    if peek.state == "none":
        return (
            f"Keep rating: no item comparing {peek.first} and {peek.second} has all its ratings yet{waiting}."
        )
    items = formatting.plural(peek.items, "item")
    if peek.interval.why:
        return f"Whether to stop can't be determined after {items}: {peek.interval.why}{waiting}."
    if peek.state == "go_on":
        sure = f"after {items}, there are not enough ratings of {peek.first} and {peek.second} to stop"
        return f"Keep rating: {sure}, mean preference {_format_preference(peek.interval)}{waiting}."
    winner, other = (peek.first, peek.second) if peek.state == "first" else (peek.second, peek.first)
    return (
        f"Enough ratings: {winner} is preferred to {other}. Mean preference for {peek.first} "
        f"{_format_preference(peek.interval)} over {items}{waiting}. This is valid however often you "
        "check."
    )


def _format_preference(at: Interval) -> str:
    """Format a preference from -1 to 1 with two decimals, as a limit near 0 matters."""
    return f"{formatting.format_number(at.value, 2)} ({formatting.format_interval(at.low, at.high, 2)})"


def describe_criterion_differences(differences: Mapping[str, Interval], first: str, second: str) -> list[str]:
    """Describe which system scores higher on each criterion."""
    lines = []
    for criterion, at in differences.items():
        if at.low is None or at.high is None:
            lines.append(f"{criterion}: {first} and {second} show no clear difference: {at.why}.")
            continue
        points = f"{format_number(at)} points, {formatting.plural(at.n, 'paired score')}"
        if at.above or at.below:
            higher, lower = (first, second) if at.above else (second, first)
            lines.append(
                f"{criterion}: {higher} scores higher than {lower} ({first} less {second}: {points})."
            )
        else:
            lines.append(f"{criterion}: {first} and {second} show no clear difference ({points}).")
    return lines


def describe_pass_rate(system: str, rate: Interval) -> str:
    """Describe how many of a system's answers passed."""
    return f"{system} passes in {format_share(rate)} of {formatting.plural(rate.n, 'rating')}."


def list_score_tables(ratings: RoundRatings) -> list[CriterionScores]:
    """Return the scores by criterion, and the overall scores if the round has them; empty ones are
    left out.
    """
    return [table for table in (ratings.scores, ratings.overall) if table is not None and len(table)]


def describe_differences(ratings: RoundRatings) -> list[str]:
    """Describe the differences of each pair of models on each criterion.

    For three or more models, only clear differences are listed and the others counted. Notes on the
    Bonferroni correction and the population follow.
    """
    tables = list_score_tables(ratings)
    rated = {name for table in tables for name in {table.systems[place] for place in table.system.tolist()}}
    pairs = list(combinations([name for name in ratings.systems if name in rated], 2))
    compared = len(pairs) * sum(len(table.criteria) for table in tables)
    lines, unclear = [], 0
    for first, second in pairs:
        for table in tables:
            differences = compute_criterion_differences(table, first, second, compared=compared)
            clear = {name: at for name, at in differences.items() if at.above or at.below}
            listed = differences if len(pairs) == 1 else clear
            unclear += len(differences) - len(listed)
            lines += describe_criterion_differences(listed, first, second)
    if unclear:
        others = "other differences" if lines else "differences"
        lines.append(f"{unclear:,} {others} between two models on a criterion are not clear.")
    if compared > 1:
        lines.append(f"Intervals of differences are corrected for {compared:,} of them (Bonferroni).")
    return [*lines, *([line] if (line := describe_population(ratings)) else [])]


def describe_means(ratings: RoundRatings) -> list[str]:
    """Describe each model's mean on each criterion."""
    return [
        f"{name}, {criterion}: {format_number(at)}."
        for table in list_score_tables(ratings)
        for (name, criterion), at in compute_criterion_means(table).items()
    ]


def describe_population(ratings: RoundRatings) -> str:
    """Describe whose opinion the intervals generalize to; empty without intervals."""
    tables = list_score_tables(ratings)
    has_interval = any(
        at.low is not None for table in tables for at in compute_criterion_means(table).values()
    )
    if not has_interval:
        return ""
    raters = max(len(set(table.rater.tolist())) for table in tables)
    fewest = min(count_fewest_raters(table) for table in tables)
    if fewest >= MIN_RATERS:
        return f"This holds for people like these {raters:,} raters."
    who = "this one rater" if raters == 1 else f"these {raters:,} raters"
    few = (
        "so few"
        if raters < MIN_RATERS
        else f"some figures use {formatting.plural(fewest, 'rater')}, and so few"
    )
    return f"This holds for {who} only: {few} can't be generalized to others."
