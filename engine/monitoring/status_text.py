"""Sentences about the state of an endpoint: its reference, the selected window, its summary, and the latency
and error rate tests. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.monitoring.comparisons import DriftComparison
from engine.monitoring.drift import WATCHED_SIGNALS, NameFormatter, Scale, compute_bin_value
from engine.monitoring.sequential_tests import MARGIN, MIN_REFERENCE, WARM_UP, compute_pace_threshold
from engine.monitoring.text import NO_INTERVAL, format_odds, format_time
from store.core.formatting import MINUS, format_number, format_perplexity, percent, plural
from store.core.monitoring_schemas import PaceName, PaceTest, PaceWatch, ReferenceFacts, WatchedName

DriftStatus = Literal["alarm", "held", "quiet", "collecting", "unwatched"]
SummaryCode = Literal["alerts", "no_requests", "pending", "too_few", "no_reference", "quiet"]

STATUS_LABELS: dict[DriftStatus, str] = {
    "alarm": "Alert",
    "held": "Pending",
    "quiet": "No alert",
    "collecting": "Not enough data",
    "unwatched": "Not monitored",
}


@dataclass(frozen=True)
class StatusSummary:
    """The state of an endpoint. count: open alerts, or monitored values that are pending or without an alert;
    tested: the fewest requests that any of these was tested on, or that one needs."""

    code: SummaryCode
    count: int = 0
    tested: int = 0


def describe_summary(summary: StatusSummary) -> str:
    """The summary in one sentence."""
    values = plural(summary.count, "monitored value")
    return {
        "alerts": f"{plural(summary.count, 'open alert')}.",
        "no_requests": "No requests in this window.",
        "pending": f"{values} may have changed; pending confirmation by full days.",
        "too_few": f"Not enough data: fewer than {summary.tested} requests tested against the reference.",
        "no_reference": "Not enough data: the reference is not complete.",
        "quiet": f"No open alerts. No change detected in {values}, each tested on"
        f" {plural(summary.tested, 'request')} or more.",
    }[summary.code]


# The reference.


def describe_reference(reference: ReferenceFacts | None, source: str, taken: int, wanted: int) -> str:
    """What new requests are compared with. source: first, window, dataset or evaluation; taken: requests
    collected so far for a reference that consists of requests."""
    if reference is None:
        return _describe_pending_reference(source, taken, wanted)
    return (
        f"Compared with {reference.source}. Distances, topics and names are taken from {reference.fitted:,}"
        f" of them, selected at random, and their tests start with the other"
        f" {reference.rows - reference.fitted:,}; all other tests start with all of them."
    )


def _describe_pending_reference(source: str, taken: int, wanted: int) -> str:
    if source in ("dataset", "evaluation"):
        return "Computing the reference from its rows."
    if source == "window":
        return f"No reference yet: its window has {plural(taken, 'request')}."
    if taken >= wanted:
        return f"Computing the reference from the first {plural(wanted, 'request')}."
    return f"No reference yet: {taken:,} of {plural(wanted, 'request')}."


# The selected window compared with the reference: a description, which raises no alert.


def describe_window(
    name: WatchedName,
    seen: DriftComparison,
    reference: Mapping[Any, int],
    window: Mapping[Any, int],
    name_of: NameFormatter,
) -> str:
    """How the window differs from the reference, with what chance alone explains."""
    scale = WATCHED_SIGNALS[name].scale
    if scale == "category":
        moved = _describe_changed_name(name, seen, name_of)
    elif scale == "share":
        moved = "average " + " → ".join(percent(_mean_share(bins)) for bins in (reference, window))
    else:
        moved = _describe_changed_median(scale, seen)
    chance = "within chance" if seen.psi <= seen.psi_by_luck else f"chance: up to {seen.psi_by_luck:.2f}"
    parts = [moved, f"PSI {seen.psi:.2f} ({chance})"]
    if seen.ks is not None and seen.ks_by_luck is not None and seen.ks > seen.ks_by_luck:
        parts.append(f"KS distance {percent(seen.ks)} (chance: up to {percent(seen.ks_by_luck)})")
    return "; ".join([*parts, plural(seen.window, "value")])


def _describe_changed_name(name: WatchedName, seen: DriftComparison, name_of: NameFormatter) -> str:
    category, change = seen.moved[0]
    points = [
        f"{100 * (end or 0):+.0f}".replace("-", MINUS) for end in (change.value, change.low, change.high)
    ]
    return f"{name_of(name, category)} {points[0]} points ({points[1]} to {points[2]})"


def _mean_share(bins: Mapping[Any, int]) -> float:
    """Most shares are 0, so that their median says nothing."""
    return sum(compute_bin_value("share", place) * n for place, n in bins.items()) / max(
        1, sum(bins.values())
    )


def _describe_changed_median(scale: Scale, seen: DriftComparison) -> str:
    ends = [compute_bin_value(scale, place or 0.0) for place in (seen.reference_median, seen.window_median)]
    if scale == "perplexity":
        before, after = (format_perplexity(math.exp(end)) for end in ends)
        return f"median perplexity {before} → {after}"
    first, second = (format_number(end, 0 if scale == "length" else 2) for end in ends)
    unit = " characters" if scale == "length" else ""
    return f"median {first} → {second}{unit}"


# Latency and error rate.

PACE_TITLES: dict[PaceName, str] = {"slower": "Latency", "failing": "Error rate"}
PACE_ADVICE: dict[PaceName, str] = {
    "slower": "Check the slowest requests: is the machine busy with something else, are there more concurrent"
    " requests, or does another version respond? A smaller (quantized) model, more workers or the previous"
    " version help.",
    "failing": "Check the errors and the endpoint log. A fallback or the previous version can serve traffic"
    " meanwhile.",
}


def describe_pace_alarm(test: PaceTest, change_time: float, slowdown: float, alpha: float) -> str:
    """The reason of a latency or error rate alert. slowdown: the median ratio of response times since the
    change to those of reference responses of the same length."""
    since, start = test.since, format_time(change_time)
    if test.name == "slower":
        change = (
            f"Latency has increased, most likely since {start}. Of the {plural(since.n, 'response')} since"
            f" then, up to this alert, half took over {format_number(slowdown, 1)} times as long as responses"
            " of the same length in the reference."
        )
        unless = f"As long as half of the responses take at most {MARGIN:g} times as long"
    else:
        change = (
            f"The error rate has increased, most likely since {start}: {since.over:,} of the"
            f" {plural(since.n, 'request')} since then, up to this alert, failed"
            f" ({percent(since.over / max(1, since.n))}), compared with {percent(test.usual)} of"
            f" {test.reference:,} in the reference."
        )
        unless = (
            f"As long as at most {percent(test.allowed)} fail (the upper confidence limit of the reference)"
        )
    chance = (
        f"Evidence is {format_odds(test.largest)} (alert threshold:"
        f" {format_odds(compute_pace_threshold(alpha))}). {unless}, the chance that it ever reaches the"
        f" threshold is at most {100 * alpha:g}%."
    )
    return " ".join((change, NO_INTERVAL, chance))


def describe_baseline(test: PaceTest) -> str:
    """The figures of the reference, and what counts as a change."""
    if test.times is None:
        failed, limit = percent(test.usual), percent(test.allowed)
        if test.allowed >= 1:
            return f"reference: {failed} failed; an increase cannot be tested"
        return f"reference: {failed} failed; tested for more than {limit}"
    unlike = plural(test.unlike, "response")
    left_out = f"; {unlike} excluded (length not in the reference)" if test.unlike else ""
    return (
        f"reference: median {format_number(test.usual, 2)} s; slow means over"
        f" {format_number(test.times.limit, 1)} times the expected time for the length{left_out}"
    )


def describe_pace_reference(watch: PaceWatch | None, wanted: int) -> str:
    """What latency and error rate are compared with."""
    tests: Sequence[PaceTest] = watch.tests if watch else []
    least = min((test.reference for test in tests), default=0)
    lacks = max((test.wanted - test.reference for test in tests), default=wanted)
    end = next((test.ends_at for test in tests if test.ends_at), None)
    starts = [test.begins_at for test in tests if test.begins_at is not None]
    after = f" from {format_time(min(starts))} on" if starts else f" after {WARM_UP} warm-up requests"
    what = "Latency (for the same response length) and error rate"
    if lacks and end:
        return (
            f"{what} are compared with the window{after} up to {format_time(end)}, if it has at least"
            f" {plural(MIN_REFERENCE, 'request')}."
        )
    if lacks:
        lacking = plural(lacks, "more request")
        return f"{what} are compared with the first {wanted:,} requests{after}: {lacking} needed."
    return f"{what} are compared with {plural(least, 'request')}{after}; rows of data have no latency."
