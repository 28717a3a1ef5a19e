"""How an endpoint stands, line by line: each watched value with its evidence, latency and failures with their
tests, and the whole in a sentence. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.monitoring.comparisons import DriftComparison, compare_window
from engine.monitoring.drift import (
    WATCHED_SIGNALS,
    NameFormatter,
    WatchedSignal,
    compute_bin_value,
    compute_log_threshold,
)
from engine.monitoring.sequential_tests import (
    MARGIN,
    MIN_REFERENCE,
    MINUTE,
    RATIO_STEP,
    WARM_UP,
    compute_pace_threshold,
)
from engine.monitoring.text import NO_INTERVAL, classify_state, describe_held_alarm, format_odds, format_time
from store.core.formatting import MINUS, format_number, format_perplexity, percent, plural
from store.core.monitoring_schemas import (
    PaceName,
    PaceTest,
    PaceWatch,
    ReferenceFacts,
    ReferenceValue,
    TestState,
    WatchedName,
)

DriftStatus = Literal["alarm", "held", "quiet", "collecting", "unwatched"]
STATUS_LABELS: dict[DriftStatus, str] = {
    "alarm": "Alarm",
    "held": "Held back",
    "quiet": "No alarm",
    "collecting": "Not enough yet",
    "unwatched": "Not watched",
}
MIN_TESTED = 20  # values, under which quiet says nothing


@dataclass(frozen=True)
class DriftLine:
    """One watched value. evidence: now, and at most since the test began; since: Unix time, s, of an alarm;
    window: how the chosen window differs, in words; note: what else has to be known."""

    name: WatchedName | PaceName
    title: str
    standing: DriftStatus
    evidence: str
    strongest: str
    tested: int
    reference: int
    wanted: int
    since: float | None
    window: str
    note: str


def build_status_lines(
    watched: Sequence[WatchedName],
    states: Sequence[TestState],
    reference: ReferenceFacts | None,
    counts: Mapping[WatchedName, Mapping[int, int] | Mapping[str, int]],
    alpha: float,
    name_of: NameFormatter,
) -> list[DriftLine]:
    """Of each watched value; `counts`: its bins or names within the chosen window."""
    by_name, limit = {state.name: state for state in states}, compute_log_threshold(alpha, len(watched))
    return [
        _build_line(name, by_name.get(name), limit, reference, counts.get(name, {}), name_of)
        for name in watched
    ]


def _build_line(
    name: WatchedName,
    state: TestState | None,
    log_threshold: float,
    reference: ReferenceFacts | None,
    counts: Mapping[int, int] | Mapping[str, int],
    name_of: NameFormatter,
) -> DriftLine:
    facts = reference.values.get(name) if reference else None
    title, note = WATCHED_SIGNALS[name].title, facts.why if facts else ""
    if state is None:
        standing: DriftStatus = "unwatched" if reference else "collecting"
        return DriftLine(name, title, standing, "–", "–", 0, 0, 0, None, "", note)
    standing = classify_state(state, log_threshold)
    if standing == "held":
        note = describe_held_alarm(state)
    if standing == "quiet" and state.tested < MIN_TESTED:
        standing = "collecting"
    return DriftLine(
        name=name,
        title=title,
        standing=standing,
        evidence=format_odds(state.log_wealth),
        strongest=format_odds(state.largest),
        tested=state.tested,
        reference=state.reference,
        wanted=state.wanted,
        since=(state.lowest_at or state.alarm_at) if standing == "alarm" else None,
        window=_describe_window(WATCHED_SIGNALS[name], facts, counts, name_of) if facts else "",
        note=note if standing == "held" or state.reference < state.wanted else "",
    )


def _describe_window(
    watched: WatchedSignal,
    facts: ReferenceValue,
    counts: Mapping[int, int] | Mapping[str, int],
    name_of: NameFormatter,
) -> str:
    """How the window differs from the reference, for one look: a description, no alarm."""
    names = facts.names if watched.is_category else facts.bins
    reference = dict(zip(names, facts.counts, strict=True))
    seen = compare_window(reference, counts)  # type: ignore[arg-type]  # both by bin, or both by name
    if seen is None:
        return ""
    luck = " (as by luck)" if seen.psi <= seen.psi_by_luck else f" (luck: up to {seen.psi_by_luck:.2f})"
    index = f"stability index {seen.psi:.2f}{luck}"
    if watched.is_category:
        moved = _describe_changed_name(watched, seen, name_of)
    elif watched.scale == "share":
        moved = " → ".join(percent(_mean(bins)) for bins in (reference, counts))
    else:
        moved = _describe_changed_median(watched, seen)
    parts = [moved, index]
    if seen.ks is not None and seen.ks_by_luck is not None and seen.ks > seen.ks_by_luck:
        parts.append(f"largest gap of shares {percent(seen.ks)} (luck: up to {percent(seen.ks_by_luck)})")
    return "; ".join([*parts, plural(seen.window, "value")])


def _describe_changed_name(watched: WatchedSignal, seen: DriftComparison, name_of: NameFormatter) -> str:
    name, change = seen.moved[0]
    points = [
        f"{100 * (end or 0):+.0f}".replace("-", MINUS) for end in (change.value, change.low, change.high)
    ]
    return f"{name_of(watched.name, name)} {points[0]} points ({points[1]} to {points[2]})"


def _mean(bins: Mapping[Any, int]) -> float:
    """Of shares: few of them are anything but 0, so that their median says nothing."""
    return sum(compute_bin_value("share", place) * n for place, n in bins.items()) / max(
        1, sum(bins.values())
    )


def _describe_changed_median(watched: WatchedSignal, seen: DriftComparison) -> str:
    ends = [
        compute_bin_value(watched.scale, place or 0.0)
        for place in (seen.reference_median, seen.window_median)
    ]
    if watched.scale == "perplexity":
        before, after = (format_perplexity(math.exp(end)) for end in ends)
        return f"half above perplexity {before} → {after}"
    places = 0 if watched.scale == "length" else 2
    first, second = (format_number(end, places) for end in ends)
    unit = " characters" if watched.scale == "length" else ""
    return f"half above {first} → {second}{unit}"


def describe_reference(reference: ReferenceFacts | None, source: str, taken: int, wanted: int) -> str:
    """What new requests are held against. source: first, window, dataset or evaluation; taken:
    requests that are there for a reference of requests."""
    if reference is None:
        return _describe_pending_reference(source, taken, wanted)
    fitted = reference.fitted
    return (
        f"Held against {reference.source}. Distances, topics and names are taken from {fitted:,} of"
        f" them, drawn by"
        f" chance, and their tests begin with the other {reference.rows - fitted:,}; all other tests"
        f" begin with all"
        " of them."
    )


def _describe_pending_reference(source: str, taken: int, wanted: int) -> str:
    if source in ("dataset", "evaluation"):
        return "The reference is being learned from its rows."
    if source == "window":
        return f"The reference is not there yet: its window has {plural(taken, 'request')}."
    if taken >= wanted:
        return f"The reference is being learned from the first {plural(wanted, 'request')}."
    return f"The reference is not there yet: {taken:,} of {plural(wanted, 'request')}."


def summarize_status(lines: Sequence[DriftLine], alerts: int, requests: int) -> str:
    """Is it still good? In a sentence, and what it rests on."""
    if alerts:
        return f"{plural(alerts, 'alert')} to look at."
    if not requests:
        return "Nobody has asked it in this window."
    held = sum(line.standing == "held" for line in lines)
    if held:
        which = "it is" if held == 1 else "they are"
        return (
            f"{plural(held, 'watched value')} looked unlike the reference, and {which} held back until whole"
            " days say so too."
        )
    tested = [line for line in lines if line.standing in ("quiet", "alarm")]
    if not tested:
        if any(line.reference >= line.wanted > 0 for line in lines):
            return f"Too early to tell: fewer than {MIN_TESTED} requests were tested against the reference."
        return "Too early to tell: what new requests are held against is not there yet."
    least = min(line.tested for line in tested)
    return (
        f"No alert is open, and there is no alarm in {plural(len(tested), 'watched value')}, each tested on"
        f" {plural(least, 'request')} or more."
    )


PACE_TITLES: dict[PaceName, str] = {"slower": "Time of answers", "failing": "Failed requests"}
PACE_ADVICE: dict[PaceName, str] = {
    "slower": "Look at the slowest: is the machine busy with something else, do more people ask at once, or"
    " does another version answer? A smaller form of the model, more workers, or the version before help.",
    "failing": "Look at the errors and at the log of the endpoint. A fallback, or the version before, answers"
    " meanwhile.",
}


def find_change_time(test: PaceTest) -> float:
    """Since when it has most likely been so: Unix time, s."""
    minute = test.since.minute
    return float(minute * MINUTE) if minute is not None else test.alarm_at or 0.0


def compute_slowdown(test: PaceTest) -> float:
    """How many times as long as one of its length in the reference the middle answer took since then."""
    return _compute_median({int(place): n for place, n in test.since.bins.items()})


def _compute_median(bins: Mapping[int, int]) -> float:
    left = (sum(bins.values()) + 1) // 2
    for place in sorted(bins):
        left -= bins[place]
        if left <= 0:
            return math.exp(place * RATIO_STEP)
    return 1.0


def describe_pace_alarm(test: PaceTest, alpha: float) -> str:
    """Why a test has raised its alarm, with figures of the time since the change that it names."""
    since = test.since
    if test.name == "slower":
        change = (
            f"Answers have become slower, most likely since {format_time(find_change_time(test))}. Of the"
            f" {plural(since.n, 'answer')} since then, up to this alert, half took over"
            f" {format_number(compute_slowdown(test), 1)} times as long as answers of their"
            " length in the reference."
        )
        unless = f"as long as half of the answers take at most {MARGIN:g} times as long"
    else:
        share = percent(since.over / max(1, since.n))
        change = (
            f"More requests fail, most likely since {format_time(find_change_time(test))}:"
            f" {since.over:,} of the"
            f" {plural(since.n, 'request')} since then, up to this alert ({share}), against"
            f" {percent(test.usual)} of {test.reference:,} in the reference."
        )
        unless = f"as long as at most {percent(test.allowed)} fail, which the reference can't rule out"
    chance = (
        f"The evidence is {format_odds(test.largest)}; an alert of times or failures is raised at"
        f" {format_odds(compute_pace_threshold(alpha))}, which {unless} ever comes with a chance of at most"
        f" {100 * alpha:g}%."
    )
    return " ".join((change, NO_INTERVAL, chance))


def build_pace_lines(watch: PaceWatch | None) -> list[DriftLine]:
    """How both tests stand, as the watched values do."""
    return [_build_pace_line(test) for test in watch.tests] if watch else []


def _build_pace_line(test: PaceTest) -> DriftLine:
    whole = test.reference >= test.wanted
    standing: DriftStatus = "collecting"
    if test.alarm_place is not None:
        standing = "alarm"
    elif whole and test.tested >= MIN_TESTED:
        standing = "quiet"
    return DriftLine(
        name=test.name,
        title=PACE_TITLES[test.name],
        standing=standing,
        evidence=format_odds(test.log_wealth),
        strongest=format_odds(test.largest),
        tested=test.tested,
        reference=test.reference,
        wanted=test.wanted,
        since=find_change_time(test) if standing == "alarm" else None,
        window=_describe_baseline(test) if whole else "",
        note="",
    )


def _describe_baseline(test: PaceTest) -> str:
    """What the reference had, and from where on a request speaks for a change."""
    if test.times is None:
        failed, limit = percent(test.usual), percent(test.allowed)
        if test.allowed >= 1:
            return f"reference: {failed} failed, and no more can"
        return f"reference: {failed} failed; tested is whether over {limit} do"
    unlike = plural(test.unlike, "answer")
    left_out = f"; {unlike} left out, of lengths that it hasn’t" if test.unlike else ""
    return (
        f"reference: half within {format_number(test.usual, 2)} s; slow is over"
        f" {format_number(test.times.limit, 1)} times what one of that length took{left_out}"
    )


def describe_pace_reference(watch: PaceWatch | None, wanted: int) -> str:
    """What times and failures are held against."""
    tests = watch.tests if watch else []
    least = min((test.reference for test in tests), default=0)
    lacks = max((test.wanted - test.reference for test in tests), default=wanted)
    end = next((test.ends_at for test in tests if test.ends_at), None)
    starts = [test.begins_at for test in tests if test.begins_at is not None]
    after = f" from {format_time(min(starts))} on" if starts else f" after {WARM_UP} of warming up"
    what = "Times (beside answers of the same length) and failures"
    if lacks and end:
        return (
            f"{what} are watched against the window{after} up to {format_time(end)}, if it has"
            f" {plural(MIN_REFERENCE, 'request')} or more."
        )
    if lacks:
        lacking = plural(lacks, "more request")
        return f"{what} are watched against the first {wanted:,} requests{after}: {lacking} until then."
    return f"{what} are held against {plural(least, 'request')}{after}; rows of data have no times."
