"""What is wrong with a data set, from what was measured of it: findings, the most serious first.

A finding is a signal that lies outside its healthy band, put in plain words with the number, the share of the
rows it touches, why it matters, the filter that shows the rows and the recipe steps that mend it. Figures go
in and findings come out: the bands are those of the catalogue of signals that the caller hands over, and
filters and steps are documents, so that nothing here knows of stores or screens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from engine.diagnostics.finding_rules import RULES, Fix, Rule, Severity
from engine.diagnostics.phrasing import number, percent, percent_beside, plural
from engine.diagnostics.statistics import Interval, wilson_interval

Document = dict[str, Any]
LEVELS: dict[Severity, str] = {
    "serious": "People may be harmed, or the result can't be trusted.",
    "notable": "The model learns something that was not meant.",
    "minor": "Worth a look; often it is meant so.",
}
ORDER: tuple[Severity, ...] = ("serious", "notable", "minor")
WIDESPREAD = 0.1  # share of the rows from which a finding goes one level up


class Signal(Protocol):
    """What is needed of a signal of the catalogue."""

    @property
    def column(self) -> str: ...
    @property
    def type(self) -> Literal["number", "flag", "category", "group"]: ...
    @property
    def title(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def healthy(self) -> tuple[float | None, float | None] | None: ...
    @property
    def outside(self) -> str: ...


class Group(Protocol):
    """What is needed of a group of signals."""

    @property
    def title(self) -> str: ...
    @property
    def signals(self) -> Sequence[Signal]: ...


@dataclass(frozen=True)
class Finding:
    """One signal outside its band.

    share: of rows, with its n and, where a sample was measured, Wilson's 95% interval; None for a median.
    rows: how many were found among those measured. where: document of the filter that shows them. fixes: the
    first is the one to offer first.
    """

    column: str
    severity: Severity
    severity_reason: str
    title: str
    measure: str
    why: str
    rows: int | None
    share: Interval | None
    where: Document
    fixes: tuple[Fix, ...]


@dataclass(frozen=True)
class Checked:
    """What findings rest on: titles of the signals that have a band and were looked at, and of the groups
    that were not measured."""

    signals: tuple[str, ...]
    missing: tuple[str, ...]


def findings(
    dataset: Mapping[str, Any], signals: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Group]
) -> list[Finding]:
    """Every signal outside its healthy band, most serious first, then by the share of rows.

    dataset: needs `row_count`. signals: group -> {"figures": {column: figures}, "options", …}; the shapes of
    figures are those of docs/architecture.md, "Data quality". groups: the catalogue, by name.
    """
    found = []
    for name, measured in signals.items():
        if measured.get("outdated"):  # its columns meant something else
            continue
        for signal in groups[name].signals:
            figures = measured["figures"].get(signal.column)
            if figures and figures["n"] and signal.healthy is not None:
                found.append(
                    _finding(int(dataset["row_count"]), signal, figures, measured.get("options", {}))
                )
    known = [finding for finding in found if finding is not None]
    return sorted(known, key=lambda f: (ORDER.index(f.severity), -(f.share.value if f.share else 0.0)))


def checked(signals: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Group]) -> Checked:
    """Which signals with a band were measured, and which groups were not."""
    seen, missing = [], []
    for name, group in groups.items():
        if name not in signals:
            missing.append(group.title)
            continue
        figures = signals[name]["figures"]
        seen += [s.title for s in group.signals if s.healthy and figures.get(s.column, {}).get("n")]
    return Checked(tuple(seen), tuple(missing))


def _finding(rows: int, signal: Signal, figures: Document, options: Document) -> Finding | None:
    """The finding of one signal, or None where it lies inside its band (the edges belong to it)."""
    count = _count(signal, figures)
    value = figures["median"] if count is None else count / figures["n"]
    if value is None or _inside(value, signal.healthy):
        return None
    rule = RULES.get(signal.column, Rule())
    share = None if count is None else wilson_interval(count, figures["n"])
    sampled = figures["n"] < rows
    severity, reason = _severity(rule, signal, share, sampled)
    return Finding(
        signal.column,
        severity,
        reason,
        _title(rule, signal, figures, count, value),
        _measure(share, figures, sampled, rows),
        f"{rule.why or signal.outside}".strip(),
        count,
        share,
        _where(signal),
        rule.fixes(signal.column, options),
    )


def _count(signal: Signal, figures: Document) -> int | None:
    """Rows that the signal found; None for a number that is judged by its median."""
    if signal.type == "flag":
        return int(figures["flagged"])
    if signal.type == "group":
        return int(figures["extra"])
    return int(figures["positive"]) if signal.unit == "found" else None


def _inside(value: float, band: tuple[float | None, float | None] | None) -> bool:
    low, high = band or (None, None)
    return (low is None or value >= low) and (high is None or value <= high)


def _severity(rule: Rule, signal: Signal, share: Interval | None, sampled: bool) -> tuple[Severity, str]:
    """The rule's level; one up where it is widespread and should be rare, one down where a sample leaves it
    open."""
    at, reason = ORDER.index(rule.severity), LEVELS[rule.severity]
    high = (signal.healthy or (None, None))[1]
    usual = high is not None and high >= WIDESPREAD  # such a share says no more than that it is a finding
    if share is not None and share.value > WIDESPREAD and not usual and at > 0:
        at, reason = at - 1, f"{LEVELS[ORDER[at - 1]]} It touches more than a tenth of the rows."
    if sampled and share is not None and share.low is not None and _open(share, signal.healthy):
        at = min(at + 1, len(ORDER) - 1)
        reason = "Only a sample was measured, and it may be chance."
    return ORDER[at], reason


def _open(share: Interval, band: tuple[float | None, float | None] | None) -> bool:
    """Whether the interval of the share reaches into the band. None at all is a band that one row leaves."""
    high = band[1] if band else None
    return bool(high) and share.low is not None and share.low <= float(high or 0)


def _title(rule: Rule, signal: Signal, figures: Document, count: int | None, value: float) -> str:
    if count is None:
        high = signal.healthy[1] if signal.healthy else None
        share = signal.unit == "share"
        limit = "" if high is None else percent(high) if share else f"{high:g}"
        bound = f"; at most {limit} is healthy" if limit else ""
        above = percent_beside(value, high) if share else number(value, 2)
        return f"{signal.title}: half of the rows are at {above} or above{bound}"
    noun = rule.noun or f"row with {signal.title.lower()}"
    text = _counted(count, noun)
    return f"{text} in {plural(int(figures['groups']), 'group')}" if signal.type == "group" else text


def _counted(count: int, noun: str) -> str:
    """ "1 row with HTML", "3 rows with HTML", "12 near duplicates"."""
    first, space, rest = noun.partition(" ")
    if first == "row":
        return f"{plural(count, first)}{space}{rest}"
    return plural(count, noun)


def _measure(share: Interval | None, figures: Document, sampled: bool, rows: int) -> str:
    """ "25% of 2,211 rows", with the interval where they are a sample of all rows."""
    n = int(figures["n"])
    if share is None:
        return f"Median of {plural(n, 'row')}" + (f", a sample of {rows:,}" if sampled else "")
    text = f"{percent(share.value)} of {plural(n, 'row')}"
    if not sampled or share.low is None or share.high is None:
        return text
    return f"{text} measured of {rows:,}; between {percent(share.low)} and {percent(share.high)} of all (95%)"


def _where(signal: Signal) -> Document:
    """The filter that shows what was found. A group may be named 0, after its first row: not null counts."""
    if signal.type == "group":
        condition: Document = {"column": signal.column, "op": "is not", "value": None}
    elif signal.type == "flag":
        condition = {"column": signal.column, "op": "is", "value": True}
    elif signal.unit == "found":
        condition = {"column": signal.column, "op": ">", "value": 0}
    else:
        high = signal.healthy[1] if signal.healthy else None
        condition = {"column": signal.column, "op": ">", "value": 0 if high is None else high}
    return {"conditions": [condition]}
