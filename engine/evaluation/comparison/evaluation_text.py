"""Text about the comparison of two evaluations and the judging of their answers, beside the figures.

Used by the pages and the command line. Pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from store.core.documents import parse_document
from store.core.figure_schemas import Estimate, Figure
from store.core.formatting import compute_decimals, format_number, plural
from store.evaluation.schemas import (
    ComparisonLooks,
    JudgeLengthBias,
    JudgePositionBias,
    JudgingResult,
    PairCounts,
    PreferenceDetails,
)


def describe_different_rows(first: int, second: int, common: int) -> str:
    """Describe how the rows of the two evaluations differ, of which `common` are in both."""
    if not common:
        return (
            f"No rows in common: this evaluation has {plural(first, 'row')}, the other {second:,} different"
            " ones."
        )
    most = max(first, second)
    if common == min(first, second):
        return (
            f"Compared on {plural(common, 'row')} in common; {most - common:,} that only one has are"
            " excluded."
        )
    return (
        f"Only {plural(common, 'row')} in common of {first:,} here and {second:,} in the other; the rest is"
        " excluded, and so few may not be representative."
    )


def describe_different_prompting(ways: Sequence[str]) -> list[str]:
    """Note that the two were prompted differently, in the respects named by `ways`."""
    if not ways:
        return []
    return [
        f"The two evaluations used different settings ({'; '.join(ways)}), which may itself change the"
        " answers."
    ]


FALSE_RATE = 0.05  # of comparisons in which no run differs, those that call one better


def describe_looks(looks: ComparisonLooks) -> str:
    """Describe how often runs were compared on the same held-out rows, and how many false results that gives.

    The expected number of comparisons with a false result is at most their number times 5%, whatever they
    have in common (expectations add up); so is the probability of any (Boole's inequality).
    """
    count = looks["comparisons"]
    if count < 2:
        return ""
    details = [
        f"{looks['narrowed']:,} without some runs of an earlier set" if looks["narrowed"] else "",
        f"{plural(looks['repeated'], 'repeated evaluation')}" if looks["repeated"] else "",
    ]
    also = f" ({', '.join(part for part in details if part)})" if any(details) else ""
    expected = count * FALSE_RATE
    chance = (
        f"the chance that at least one did is up to {format_number(100 * expected, 0)}%"
        if expected < 1
        else "at least one is likely to have"
    )
    return (
        f"{count:,} different sets of runs, of {plural(looks['runs'], 'run')} in all, have been compared on"
        f" these {looks['split']} rows{also}. If no run were better than any other, up to"
        f" {format_number(expected, 2 if expected < 1 else 1)} of these comparisons would call one better by"
        f" chance, and {chance}."
    )


@dataclass(frozen=True)
class ComparisonSides:
    """Names of the two sides. `turned`: "this" is the judging's second side."""

    this: str = "this one"
    other: str = "the other one"
    turned: bool = False


def format_judging_headline(judging: JudgingResult, sides: ComparisonSides) -> str:
    """Return which side is preferred, if that is clear; `judging` is the judge job's result."""
    figure = judging.figure
    if figure.failed:
        return figure.failed
    if figure.value is None:
        return "No pair could be judged."
    if judging.pairs.split == figure.n:
        pairs = f"all {figure.n:,} pairs" if figure.n > 1 else "the one pair"
        return f"The presentation order decided {pairs}: which is better is unclear"
    share = _build_share(figure, sides.turned)
    lead = "Which answers are better is unclear"
    if share.low is not None and share.low > 0.5:
        lead = f"The judge prefers {sides.this}'s answers"
    elif share.high is not None and share.high < 0.5:
        lead = f"The judge prefers {sides.other}'s answers"
    wins = f"{sides.this} wins {_format_share(share)} of {plural(figure.n, 'pair')}, ties as half"
    return f"{lead}: {wins}"


class Share(NamedTuple):
    """Share of pairs with its interval."""

    value: float
    low: float | None
    high: float | None

    def of_other(self) -> Share:
        """Return the share of the other side."""
        low, high = self.low, self.high
        return Share(1 - self.value, None if high is None else 1 - high, None if low is None else 1 - low)


def _build_share(figure: Figure | Estimate, turned: bool = False) -> Share:
    share = Share(figure.value or 0.0, figure.low, figure.high)
    return share.of_other() if turned else share


def _format_share(share: Share) -> str:
    """Format a share as "35% (23 to 47%)"."""
    if share.low is None or share.high is None:
        return f"{format_number(100 * share.value, 0)}% (no interval)"
    places = compute_decimals(100 * share.low, 100 * share.high)
    value, low, high = (format_number(100 * end, places) for end in (share.value, share.low, share.high))
    return f"{value}% ({low} to {high}%)"


def describe_judging(judging: JudgingResult, sides: ComparisonSides) -> list[str]:
    """Describe the outcomes of the pairs, the effects of order and length, and what was not judged."""
    pairs, figure = judging.pairs, judging.figure
    if not figure.n:  # the headline says why
        return [f"{plural(pairs.unjudged, 'pair')} not judged."]
    this, other = pairs.first, pairs.second
    if sides.turned:
        this, other = other, this
    lines = [
        f"In both orders {sides.this} was better {plural(this, 'time')}, {sides.other}"
        f" {plural(other, 'time')}; {plural(pairs.ties, 'tie')}."
    ]
    details = parse_document(PreferenceDetails, figure.details)
    lines += _describe_order(pairs, details.get("position"))
    lines += _describe_length(judging, details.get("length"), sides)
    if pairs.unjudged:
        why = ", ".join(f"{reason} ({rows:,})" for reason, rows in list(judging.reasons.items())[:3])
        every = pairs.unjudged + figure.n
        lines.append(f"{pairs.unjudged:,} of {plural(every, 'pair')} not judged: {why}.")
    return [*lines, *judging.notices]


def _describe_order(pairs: PairCounts, position: JudgePositionBias | None) -> list[str]:
    if not position:
        return []
    split, agree = pairs.split, _format_share(_build_share(position.agree))
    decided = "The presentation order decided no pair"
    if split:
        decided = f"In {plural(split, 'pair')} the presentation order decided, which counts as a"
        decided += " tie"
    lines = [f"{decided}; both orders agree in {agree}."]
    first = position.first_shown
    if first:
        won = _format_share(_build_share(first))
        lines.append(f"Where they disagree, the answer shown first won in {won} (n {first.n:,}).")
    return lines


def _describe_length(
    judging: JudgingResult, length: JudgeLengthBias | None, sides: ComparisonSides
) -> list[str]:
    if not length:
        return []
    decided = judging.pairs.first + judging.pairs.second
    if not decided:
        return ["The effect of length is unclear: no pair was decided in both orders."]
    longer = length.longer
    if longer is None:
        return [f"Both answers are equally long in {plural(decided, 'decided pair')}."]
    won, unequal = _format_share(_build_share(longer)), plural(longer.n, "decided pair")
    lines = [f"The longer answer was preferred in {won} of {unequal} of unequal length."]
    if length.problem or length.equal is None:
        return [*lines, f"Who would win at equal length is unclear: {length.problem}."]
    equal, n = _build_share(length.equal, sides.turned), length.equal.n
    at_equal = f"At equal length {sides.this} would win {_format_share(equal)} of decided pairs (n {n:,})"
    share = _build_share(judging.figure, sides.turned)
    return [*lines, at_equal + _describe_length_effect(share, equal) + "."]


def _describe_length_effect(share: Share, equal: Share) -> str:
    if share.low is None or share.high is None or share.low <= 0.5 <= share.high:
        return ""
    if equal.low is None or equal.high is None or equal.low <= 0.5 <= equal.high:
        return ", so the judge may prefer length alone"
    return "" if (equal.low > 0.5) == (share.low > 0.5) else ": the opposite, when length is controlled for"
