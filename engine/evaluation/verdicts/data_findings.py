"""Findings about a data set from its measured signals, the most serious first.

A finding is a signal outside its healthy band, described with the number, the share of the rows affected,
why it matters, the filter that shows the rows and the recipe steps that fix it. Figures go in and findings
come out: the bands are those of the signal catalogue passed by the caller, and filters and steps are
documents, so that this module knows nothing of stores or pages.

One table has each signal's name, severity and fixes. Steps are documents of the recipe. The first fix of a
rule loses as few rows as possible: repairing comes before keeping one of several, and that before
dropping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from engine.evaluation.statistics.intervals import Interval, wilson_interval
from store.core.formatting import format_number, format_percent_at_limit, percent, plural
from store.core.row_schemas import ColumnFigure

Fields = dict[str, object]  # of a recipe step or a filter, which are config documents
Options = Mapping[str, Any]  # measurement options of a group of signals; the fields depend on the group
Severity = Literal["serious", "notable", "minor", "look"]


@dataclass(frozen=True)
class Fix:
    """A fix as a button: its label, and the steps that it adds to the recipe."""

    label: str
    steps: tuple[Fields, ...]


FixBuilder = Callable[[str, Options, ColumnFigure], tuple[Fix, ...]]


def _offer_no_fix(column: str, options: Options, figures: ColumnFigure) -> tuple[Fix, ...]:
    return ()


@dataclass(frozen=True)
class Rule:
    """Rule of a signal. noun: what is counted ("row …" or another noun). why: overrides the
    catalogue's text.
    """

    severity: Severity = "minor"
    noun: str = ""
    why: str = ""
    fixes: FixBuilder = _offer_no_fix


def offer_steps(label: str, *documents: Fields) -> FixBuilder:
    """Offer a fix that is always the same."""
    return lambda column, options, figures: (Fix(label, documents),)


def offer_drop(reason: str, label: str = "Drop these rows") -> FixBuilder:
    """Offer to drop the flagged rows."""
    return lambda column, options, figures: (Fix(label, (_build_drop_step(column, "is", True, reason),)),)


def _build_drop_step(column: str, op: str, value: Any, reason: str) -> Fields:
    where = {"conditions": [{"column": column, "op": op, "value": value}]}
    return {"step": "filter", "where": where, "action": "drop", "reason": reason}


def offer_drop_above(bound: float, label: str, reason: str) -> FixBuilder:
    """Offer to drop the rows whose value is above a bound."""
    return lambda column, options, figures: (Fix(label, (_build_drop_step(column, ">", bound, reason),)),)


def offer_drop_well_above(bound: float, label: str, reason: str) -> FixBuilder:
    """Like `offer_drop_above`, if at least one row in 20 is above the bound: fewer would not change the
    median by which the signal is judged.
    """

    def fixes(column: str, options: Options, figures: ColumnFigure) -> tuple[Fix, ...]:
        reaches = "p95" in figures and (figures["p95"] or 0.0) > bound
        return offer_drop_above(bound, label, reason)(column, options, figures) if reaches else ()

    return fixes


def offer_redaction(label: str = "Redact them") -> FixBuilder:
    """Offer to replace the matches by a placeholder, or to drop the rows."""
    return lambda column, options, figures: (
        Fix(label, ({"step": "redact", "kinds": [column]},)),
        Fix("Drop these rows", (_build_drop_step(column, ">", 0, f"{column} found"),)),
    )


def _offer_near_duplicates(column: str, options: Options, figures: ColumnFigure) -> tuple[Fix, ...]:
    """Offer to keep one of each group, at the similarity threshold with which the groups were found."""
    step: Fields = {"step": "drop_duplicates", "kind": "near"}
    if options.get("threshold") is not None:
        step["threshold"] = options["threshold"]
    return (Fix("Keep one of each", (step,)),)


def _offer_conflict(column: str, options: Options, figures: ColumnFigure) -> tuple[Fix, ...]:
    frequent: Fields = {"step": "drop_duplicates", "kind": "conflict", "keep": "most_frequent"}
    return (
        Fix("Keep the most frequent answer", (frequent,)),
        Fix(
            "Drop all of them",
            (_build_drop_step(column, "is", True, "contradicts another answer to its prompt"),),
        ),
    )


def _offer_label_errors(column: str, options: Options, figures: ColumnFigure) -> tuple[Fix, ...]:
    return (
        Fix("Drop these rows", ({"step": "label_errors", "action": "drop"},)),
        Fix("Use the suggested labels", ({"step": "label_errors", "action": "suggested"},)),
    )


def _offer_truncation(column: str, options: Options, figures: ColumnFigure) -> tuple[Fix, ...]:
    """Offer the length that the rows were measured against; no fix if it is unknown."""
    if not options.get("max_length"):
        return ()
    step: Fields = {"step": "cap_length", "most": options["max_length"], "unit": "tokens"}
    step["model"] = options.get("model", "")
    return (
        Fix("Drop these rows", ({**step, "action": "drop"},)),
        Fix("Truncate them", ({**step, "action": "cut"},)),
    )


PERSONAL = "Personal data that the model may reproduce."

RULES: dict[str, Rule] = {
    "secret": Rule(
        "serious",
        "row with keys or passwords",
        "A model can reproduce them. Also revoke them: they were leaked.",
        offer_redaction(),
    ),
    "card": Rule("serious", "row with card numbers", PERSONAL, offer_redaction()),
    "iban": Rule("serious", "row with bank accounts", PERSONAL, offer_redaction()),
    "ssn": Rule("serious", "row with social security numbers", PERSONAL, offer_redaction()),
    "email": Rule("serious", "row with e-mail addresses", PERSONAL, offer_redaction()),
    "phone": Rule("serious", "row with phone numbers", PERSONAL, offer_redaction()),
    "address": Rule("serious", "row with street addresses", PERSONAL, offer_redaction()),
    "ip": Rule("minor", "row with IP addresses", "May identify a person or a machine.", offer_redaction()),
    "profanity": Rule(
        "minor",
        "row with profanity",
        "The model learns the tone.",
        offer_drop_above(0, "Drop these rows", "profanity found"),
    ),
    "exact_group": Rule(
        "notable",
        "exact duplicate",
        "The model sees these rows several times, so they weigh more than others.",
        offer_steps("Keep one of each", {"step": "drop_duplicates", "kind": "exact"}),
    ),
    "near_group": Rule(
        "notable",
        "near duplicate",
        "Nearly identical rows weigh more than others. Check them first: a small difference may matter.",
        _offer_near_duplicates,
    ),
    "conflict": Rule(
        "notable",
        "row contradicted by another answer to its prompt",
        "The model is trained on two answers to one prompt. Check them first: counts don't show which is"
        " right.",
        _offer_conflict,
    ),
    "label_suspect": Rule("serious", "row whose label looks wrong", "", _offer_label_errors),
    "encoding_damage": Rule(
        "notable",
        "row with broken characters",
        "The file was read or written in a wrong encoding; the model learns to reproduce it.",
        offer_steps("Repair them", {"step": "fix_encoding"}),
    ),
    "lost_characters": Rule("notable", "row with lost characters", "", offer_drop("lost characters")),
    "html": Rule(
        "minor", "row with HTML", "", offer_steps("Remove the tags", {"step": "strip", "html": True})
    ),
    "boilerplate": Rule(
        "minor",
        "row with boilerplate",
        "",
        offer_steps("Remove these lines", {"step": "strip", "boilerplate": True}),
    ),
    "empty_answer": Rule("serious", "row with an empty answer", "", offer_drop("empty answer")),
    "one_word_answer": Rule("minor", "row with a one-word answer", "", offer_drop("one-word answer")),
    "echo": Rule(
        "notable", "row whose answer repeats the prompt", "", offer_drop("answer repeats the prompt")
    ),
    "refusal": Rule(
        "look",
        "row whose answer may be a refusal",
        "Detected by wording, which is often but not always right: check them. A model trained on refusals"
        " refuses more.",
        offer_drop("answer is a refusal"),
    ),
    "truncated": Rule("notable", "row whose answer breaks off", "", offer_drop("answer breaks off")),
    "repetition": Rule(
        "notable",
        fixes=offer_drop_well_above(0.5, "Drop rows that are mostly repetition", "mostly repetition"),
    ),
    "cut": Rule("notable", "row longer than the context length", "", _offer_truncation),
    "ifd": Rule(
        "notable",
        fixes=offer_drop_above(1.0, "Drop rows above 1", "the prompt does not help with the answer"),
    ),
}


LEVELS: dict[Severity, str] = {
    "serious": "May harm people, or invalidates results.",
    "notable": "The model learns something unintended.",
    "minor": "Worth checking; often intended.",
    "look": "A heuristic based on wording; check before you act on it.",
}
ORDER: tuple[Severity, ...] = ("serious", "notable", "minor", "look")
WIDESPREAD = 0.1  # share of the rows above which severity is raised by one level


class CataloguedSignal(Protocol):
    """What is required of a signal of the catalogue."""

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


class CataloguedGroup(Protocol):
    """What is required of a group of signals."""

    @property
    def title(self) -> str: ...
    @property
    def signals(self) -> Sequence[CataloguedSignal]: ...


class MeasuredGroup(Protocol):
    """What is required of a group's measurements, by column."""

    @property
    def figures(self) -> Mapping[str, Any]: ...
    @property
    def options(self) -> Options: ...
    @property
    def outdated(self) -> bool: ...


@dataclass(frozen=True)
class Finding:
    """One signal outside its band.

    share: of rows, with its n and, if a sample was measured, Wilson's 95% interval; None for a median.
    rows: the number found among the measured ones. where: document of the filter that shows them. fixes:
    the first is the preferred one.
    """

    column: str
    severity: Severity
    severity_reason: str
    title: str
    measure: str
    why: str
    rows: int | None
    share: Interval | None
    where: Fields
    fixes: tuple[Fix, ...]


@dataclass(frozen=True)
class CheckedSignals:
    """What the findings are based on: titles of the checked signals with a band, and of the groups that were
    not measured.
    """

    signals: tuple[str, ...]
    missing: tuple[str, ...]


def find_findings(
    row_count: int,
    signals: Mapping[str, MeasuredGroup],
    groups: Mapping[str, CataloguedGroup],
) -> list[Finding]:
    """Return every signal outside its healthy band, most serious first, then by the share of rows.

    row_count: of the data set. signals: by group; outdated ones had another meaning and are skipped.
    groups: the catalogue, by name.
    """
    outside = []
    for name, measured in signals.items():
        if measured.outdated:
            continue
        for signal in groups[name].signals:
            figures: ColumnFigure | None = measured.figures.get(signal.column)
            if figures and figures["n"] and signal.healthy is not None:
                outside.append(_build_finding(row_count, signal, figures, measured.options))
    kept = [finding for finding in outside if finding is not None]
    return sorted(kept, key=lambda f: (ORDER.index(f.severity), -(f.share.value if f.share else 0.0)))


def list_checked(
    signals: Mapping[str, MeasuredGroup], groups: Mapping[str, CataloguedGroup]
) -> CheckedSignals:
    """List the measured signals with a band, and the groups that were not measured."""
    seen, missing = [], []
    for name, group in groups.items():
        if name not in signals:
            missing.append(group.title)
            continue
        figures = signals[name].figures
        seen += [
            signal.title
            for signal in group.signals
            if signal.healthy and signal.column in figures and figures[signal.column]["n"]
        ]
    return CheckedSignals(tuple(seen), tuple(missing))


def _build_finding(
    rows: int, signal: CataloguedSignal, figures: ColumnFigure, options: Options
) -> Finding | None:
    """Build the finding of one signal, or None if it is inside its band (edges included)."""
    count = _count_rows(signal, figures)
    value = count / figures["n"] if count is not None else None
    if count is None and "median" in figures:
        value = figures["median"]
    low, high = signal.healthy or (None, None)
    if value is None or ((low is None or value >= low) and (high is None or value <= high)):
        return None
    rule = RULES.get(signal.column, Rule())
    share = None if count is None else wilson_interval(count, figures["n"])
    sampled = figures["n"] < rows
    severity, reason = _determine_severity(rule, signal, share, sampled)
    return Finding(
        signal.column,
        severity,
        reason,
        _format_title(rule, signal, figures, count, value),
        _format_share(share, figures, sampled, rows),
        f"{rule.why or signal.outside}".strip(),
        count,
        share,
        _build_filter(signal),
        rule.fixes(signal.column, options, figures),
    )


def _count_rows(signal: CataloguedSignal, figures: ColumnFigure) -> int | None:
    """Return the number of rows that the signal found; None for a number that is judged by its median."""
    if "flagged" in figures:
        return int(figures["flagged"])
    if "extra" in figures:
        return int(figures["extra"])
    return int(figures["positive"]) if "positive" in figures and signal.unit == "found" else None


def _determine_severity(
    rule: Rule, signal: CataloguedSignal, share: Interval | None, sampled: bool
) -> tuple[Severity, str]:
    """Return the rule's level, raised by one if a finding that should be rare is widespread, lowered by one
    if a sample is inconclusive.
    """
    at, reason = ORDER.index(rule.severity), LEVELS[rule.severity]
    if rule.severity == "look":
        return "look", reason
    high = (signal.healthy or (None, None))[1]
    usual = high is not None and high >= WIDESPREAD  # every finding has such a share
    if share is not None and share.value > WIDESPREAD and not usual and at > 0:
        at, reason = at - 1, f"{LEVELS[ORDER[at - 1]]} It affects more than a tenth of the rows."
    # in a sample, the interval of the share may overlap the band; a band of 0 is left by a single row
    if sampled and high and share is not None and share.low is not None and share.low <= high:
        at = min(at + 1, ORDER.index("minor"))
        reason = "Only a sample was measured, so it may be chance."
    return ORDER[at], reason


def _format_title(
    rule: Rule, signal: CataloguedSignal, figures: ColumnFigure, count: int | None, value: float
) -> str:
    if count is None:
        high = signal.healthy[1] if signal.healthy else None
        share = signal.unit == "share"
        limit = "" if high is None else percent(high) if share else f"{high:g}"
        bound = f"; at most {limit} is healthy" if limit else ""
        above = format_percent_at_limit(value, high) if share else format_number(value, 2)
        return f"{signal.title}: half of the rows are at {above} or above{bound}"
    noun = rule.noun or f"row with {signal.title.lower()}"
    text = _format_count(count, noun)
    return f"{text} in {plural(int(figures['groups']), 'group')}" if "groups" in figures else text


def _format_count(count: int, noun: str) -> str:
    """Format a count as "1 row with HTML", "3 rows with HTML", "12 near duplicates"."""
    first, space, rest = noun.partition(" ")
    if first == "row":
        return f"{plural(count, first)}{space}{rest}"
    return plural(count, noun)


def _format_share(share: Interval | None, figures: ColumnFigure, sampled: bool, rows: int) -> str:
    """Format a share as "25% of 2,211 rows", with the interval if they are a sample of all rows."""
    n = int(figures["n"])
    if share is None:
        return f"Median of {plural(n, 'row')}" + (f", a sample of {rows:,}" if sampled else "")
    text = f"{percent(share.value)} of {plural(n, 'row')}"
    if not sampled or share.low is None or share.high is None:
        return text
    return f"{text} measured of {rows:,}; between {percent(share.low)} and {percent(share.high)} of all (95%)"


def _build_filter(signal: CataloguedSignal) -> Fields:
    """Build the filter that shows what was found. A group may have the name 0, after its first row, so it
    checks for non-null.
    """
    if signal.type == "group":
        condition: Fields = {"column": signal.column, "op": "is not", "value": None}
    elif signal.type == "flag":
        condition = {"column": signal.column, "op": "is", "value": True}
    elif signal.unit == "found":
        condition = {"column": signal.column, "op": ">", "value": 0}
    else:
        high = signal.healthy[1] if signal.healthy else None
        condition = {"column": signal.column, "op": ">", "value": 0 if high is None else high}
    return {"conditions": [condition]}
