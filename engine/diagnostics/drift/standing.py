"""How an endpoint stands: each watched value with its evidence, and the whole in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.diagnostics.drift.batch_view import DriftView, view
from engine.diagnostics.drift.drift_words import held_note, odds, state_of
from engine.diagnostics.drift.watched import WATCHED, NameOf, Watched, value_of
from engine.diagnostics.drift.watching import threshold
from engine.diagnostics.phrasing import MINUS, number, percent, perplexity, plural
from store.documents.serving.drift import PaceName, TestState, WatchedName
from store.documents.serving.monitor import ReferenceFacts, ReferenceValue

Standing = Literal["alarm", "held", "quiet", "collecting", "unwatched"]
WORDS: dict[Standing, str] = {
    "alarm": "Alarm",
    "held": "Held back",
    "quiet": "No alarm",
    "collecting": "Not enough yet",
    "unwatched": "Not watched",
}
LEAST_TESTED = 20  # values, under which quiet says nothing


@dataclass(frozen=True)
class DriftLine:
    """One watched value. evidence: now, and at most since the test began; since: Unix time, s, of an alarm;
    window: how the chosen window differs, in words; note: what else has to be known."""

    name: WatchedName | PaceName
    title: str
    standing: Standing
    evidence: str
    strongest: str
    tested: int
    reference: int
    wanted: int
    since: float | None
    window: str
    note: str


def drift_lines(
    watched: Sequence[WatchedName],
    states: Sequence[TestState],
    reference: ReferenceFacts | None,
    counts: Mapping[WatchedName, Mapping[int, int] | Mapping[str, int]],
    alpha: float,
    name_of: NameOf,
) -> list[DriftLine]:
    """Of each watched value; `counts`: its bins or names within the chosen window."""
    by_name, limit = {state["name"]: state for state in states}, threshold(alpha, len(watched))
    return [
        _line(name, by_name.get(name), limit, reference, counts.get(name, {}), name_of) for name in watched
    ]


def _line(
    name: WatchedName,
    state: TestState | None,
    log_threshold: float,
    reference: ReferenceFacts | None,
    counts: Mapping[int, int] | Mapping[str, int],
    name_of: NameOf,
) -> DriftLine:
    facts = reference["values"].get(name) if reference else None
    title, note = WATCHED[name].title, facts["why"] if facts else ""
    if state is None:
        standing: Standing = "unwatched" if reference else "collecting"
        return DriftLine(name, title, standing, "–", "–", 0, 0, 0, None, "", note)
    standing = state_of(state, log_threshold)
    if standing == "held":
        note = held_note(state)
    if standing == "quiet" and state["tested"] < LEAST_TESTED:
        standing = "collecting"
    return DriftLine(
        name=name,
        title=title,
        standing=standing,
        evidence=odds(state["log_wealth"]),
        strongest=odds(state["largest"]),
        tested=state["tested"],
        reference=state["reference"],
        wanted=state["wanted"],
        since=(state["lowest_at"] or state["alarm_at"]) if standing == "alarm" else None,
        window=_window(WATCHED[name], facts, counts, name_of) if facts else "",
        note=note if standing == "held" or state["reference"] < state["wanted"] else "",
    )


def _window(
    watched: Watched,
    facts: ReferenceValue,
    counts: Mapping[int, int] | Mapping[str, int],
    name_of: NameOf,
) -> str:
    """How the window differs from the reference, for one look: a description, no alarm."""
    names = facts["names"] if watched.is_category else facts["bins"]
    reference = dict(zip(names, facts["counts"], strict=True))
    seen = view(reference, counts)  # type: ignore[arg-type]  # both by bin, or both by name
    if seen is None:
        return ""
    luck = " (as by luck)" if seen.psi <= seen.psi_by_luck else f" (luck: up to {seen.psi_by_luck:.2f})"
    index = f"stability index {seen.psi:.2f}{luck}"
    if watched.is_category:
        moved = _moved_name(watched, seen, name_of)
    elif watched.scale == "share":
        moved = " → ".join(percent(_mean(bins)) for bins in (reference, counts))
    else:
        moved = _moved_median(watched, seen)
    parts = [moved, index]
    if seen.ks is not None and seen.ks_by_luck is not None and seen.ks > seen.ks_by_luck:
        parts.append(f"largest gap of shares {percent(seen.ks)} (luck: up to {percent(seen.ks_by_luck)})")
    return "; ".join([*parts, plural(seen.window, "value")])


def _moved_name(watched: Watched, seen: DriftView, name_of: NameOf) -> str:
    name, change = seen.moved[0]
    points = [
        f"{100 * (end or 0):+.0f}".replace("-", MINUS) for end in (change.value, change.low, change.high)
    ]
    return f"{name_of(watched.name, name)} {points[0]} points ({points[1]} to {points[2]})"


def _mean(bins: Mapping[Any, int]) -> float:
    """Of shares: few of them are anything but 0, so that their median says nothing."""
    return sum(value_of("share", place) * n for place, n in bins.items()) / max(1, sum(bins.values()))


def _moved_median(watched: Watched, seen: DriftView) -> str:
    ends = [value_of(watched.scale, place or 0.0) for place in (seen.reference_median, seen.window_median)]
    if watched.scale == "perplexity":
        before, after = (perplexity(math.exp(end)) for end in ends)
        return f"half above perplexity {before} → {after}"
    places = 0 if watched.scale == "length" else 2
    first, second = (number(end, places) for end in ends)
    unit = " characters" if watched.scale == "length" else ""
    return f"half above {first} → {second}{unit}"


def reference_line(reference: ReferenceFacts | None, source: str, taken: int, wanted: int) -> str:
    """What new requests are held against. source: first, window, dataset or evaluation; taken:
    requests that are there for a reference of requests."""
    if reference is None:
        return _coming_reference(source, taken, wanted)
    fitted = reference["fitted"]
    return (
        f"Held against {reference['source']}. Distances, topics and names are taken from {fitted:,} of"
        f" them, drawn by"
        f" chance, and their tests begin with the other {reference['rows'] - fitted:,}; all other tests"
        f" begin with all"
        " of them."
    )


def _coming_reference(source: str, taken: int, wanted: int) -> str:
    if source in ("dataset", "evaluation"):
        return "The reference is being learned from its rows."
    if source == "window":
        return f"The reference is not there yet: its window has {plural(taken, 'request')}."
    if taken >= wanted:
        return f"The reference is being learned from the first {plural(wanted, 'request')}."
    return f"The reference is not there yet: {taken:,} of {plural(wanted, 'request')}."


def top_line(lines: Sequence[DriftLine], alerts: int, requests: int) -> str:
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
            return f"Too early to tell: fewer than {LEAST_TESTED} requests were tested against the reference."
        return "Too early to tell: what new requests are held against is not there yet."
    least = min(line.tested for line in tested)
    return (
        f"No alert is open, and there is no alarm in {plural(len(tested), 'watched value')}, each tested on"
        f" {plural(least, 'request')} or more."
    )
