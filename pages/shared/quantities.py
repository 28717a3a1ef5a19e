"""Amounts as people say them: sizes, times and shares, never a raw float."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from engine.diagnostics.phrasing import percent
from store.documents.asks.preview import TimeEstimate


def parameters(count: float) -> str:
    """ "134.5 M", "1.2 B"."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{_three_digits(count / size)} {unit}"
    return f"{count:.0f}"


def count(number: float) -> str:
    """A count in full below a million, "1.2 M" above."""
    return f"{number:,.0f}" if number < 1e6 else parameters(number)


def gib_between(low: float, high: float) -> str:
    """Two sizes in GiB as one: "1.7 to 2.1 GiB", or one where both say the same."""
    first, last = gib(low), gib(high)
    if first == last:
        return first
    number, unit = first.rsplit(" ", 1)
    return f"{number} to {last}" if last.endswith(unit) else f"{first} to {last}"


def gib(value: float) -> str:
    """GiB as "640 MiB" or "3.2 GiB"."""
    if value < 0.95:
        return f"{1024 * value:.0f} MiB"
    return f"{_three_digits(value)} GiB"


def size(count: float) -> str:
    """Bytes as "12 KiB", "3.4 MiB"."""
    for unit, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if count >= unit:
            return f"{_three_digits(count / unit)} {name}"
    return f"{count:.0f} bytes"


def span(seconds: float | None) -> str:
    """A length of time: "less than a second", "40 s", "4 min", "2 h 10 min", "3 days"."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return "unknown"
    if seconds < 1:
        return "less than a second"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest and hours < 10 else f"{hours} h"
    return f"{round(hours / 24)} days"


def span_between(low: float, high: float) -> str:
    """Two lengths of time as one: "4 to 6 min", or "about 4 min" where both say the same."""
    first, last = span(low), span(high)
    if first == last:
        return f"about {first}"
    if first.split(" ", 1)[1:] == last.split(" ", 1)[1:] and first.count(" ") == 1:
        return f"{first.split(' ')[0]} to {last}"
    return f"{first} to {last}"


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """How long since a time of the store (naive UTC): "just now", "5 min ago", "12 Mar 2026"."""
    if moment is None:
        return ""
    now = now or datetime.now(UTC).replace(tzinfo=None)
    seconds = (now - moment).total_seconds()
    if seconds < 45:
        return "just now"
    if seconds < 7 * 86_400:
        return f"{span(seconds)} ago"
    return f"{moment.day} {moment:%b %Y}"


def share(part: float, whole: float) -> str:
    """A share in per cent with the digits it needs; "0%" of nothing."""
    return percent(part / whole) if whole else "0%"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}"


def time_notes(time: TimeEstimate) -> list[str]:
    """What an estimated time holds for."""
    notes = []
    if time["busy"]:
        notes.append(f"while other work takes {time['others']:.0%} of the processors")
    if time["alone_seconds"]:
        notes.append(f"alone about {span(time['alone_seconds'])}")
    if time["may_stop"]:
        notes.append("less if it stops early")
    return notes
