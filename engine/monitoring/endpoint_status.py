"""The state of an endpoint: each monitored value with its evidence, the latency and error rate tests, and a
summary. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.monitoring.comparisons import compare_window
from engine.monitoring.drift import WATCHED_SIGNALS, NameFormatter, compute_log_threshold
from engine.monitoring.sequential_tests import MINUTE, RATIO_STEP
from engine.monitoring.status_text import (
    PACE_TITLES,
    DriftStatus,
    StatusSummary,
    describe_baseline,
    describe_window,
)
from engine.monitoring.text import describe_held_alarm, format_odds
from store.core.monitoring_schemas import (
    PaceName,
    PaceTest,
    PaceWatch,
    ReferenceFacts,
    ReferenceValue,
    TestState,
    WatchedName,
)

MIN_TESTED = 20  # values; with fewer, the absence of an alert means nothing


@dataclass(frozen=True)
class DriftLine:
    """One monitored value. strongest: the highest evidence since the test started; since: the start of the
    change of an alert, Unix time, s; window: how the selected window differs; note: a caveat."""

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


def classify_state(state: TestState, log_threshold: float) -> DriftStatus:
    """alarm; held: evidence above the threshold, not confirmed by full days; quiet; or collecting: the
    reference is incomplete."""
    if state.alarm_place is not None:
        return "alarm"
    if state.days is not None and state.largest >= log_threshold:
        return "held"
    return "collecting" if state.reference < state.wanted else "quiet"


def build_status_lines(
    watched: Sequence[WatchedName],
    states: Sequence[TestState],
    reference: ReferenceFacts | None,
    counts: Mapping[WatchedName, Mapping[int, int] | Mapping[str, int]],
    alpha: float,
    name_of: NameFormatter,
) -> list[DriftLine]:
    """One line per monitored value. counts: values by bin or name in the selected window."""
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
        window=_describe_window(name, facts, counts, name_of) if facts else "",
        note=note if standing == "held" or state.reference < state.wanted else "",
    )


def _describe_window(
    name: WatchedName,
    facts: ReferenceValue,
    counts: Mapping[int, int] | Mapping[str, int],
    name_of: NameFormatter,
) -> str:
    """How the selected window differs from the reference; empty if there are too few values."""
    names = facts.names if WATCHED_SIGNALS[name].is_category else facts.bins
    reference = dict(zip(names, facts.counts, strict=True))
    seen = compare_window(reference, counts)  # type: ignore[arg-type]  # both by bin, or both by name
    return describe_window(name, seen, reference, counts, name_of) if seen else ""


def summarize_status(lines: Sequence[DriftLine], alerts: int, requests: int) -> StatusSummary:
    """Summarize monitored values, open alerts, and requests in the selected window."""
    if alerts:
        return StatusSummary("alerts", alerts)
    if not requests:
        return StatusSummary("no_requests")
    if held := sum(line.standing == "held" for line in lines):
        return StatusSummary("pending", held)
    tested = [line for line in lines if line.standing in ("quiet", "alarm")]
    if not tested:
        has_reference = any(line.reference >= line.wanted > 0 for line in lines)
        return StatusSummary("too_few", tested=MIN_TESTED) if has_reference else StatusSummary("no_reference")
    return StatusSummary("quiet", len(tested), min(line.tested for line in tested))


def find_change_time(test: PaceTest) -> float:
    """The most likely start of the change: Unix time, s."""
    minute = test.since.minute
    return float(minute * MINUTE) if minute is not None else test.alarm_at or 0.0


def compute_slowdown(test: PaceTest) -> float:
    """Median ratio of latency since the change to that of reference responses of the same length."""
    return _compute_median({int(place): n for place, n in test.since.bins.items()})


def _compute_median(bins: Mapping[int, int]) -> float:
    left = (sum(bins.values()) + 1) // 2
    for place in sorted(bins):
        left -= bins[place]
        if left <= 0:
            return math.exp(place * RATIO_STEP)
    return 1.0


def build_pace_lines(watch: PaceWatch | None) -> list[DriftLine]:
    """One line per latency or error rate test."""
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
        window=describe_baseline(test) if whole else "",
        note="",
    )
