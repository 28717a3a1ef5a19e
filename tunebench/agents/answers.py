"""How tools answer: documents of bounded size that say what was cut, and figures as a sentence with
interval and n.

What people, files or models wrote is text to be judged: it is marked as such (`QuotedText`), bounded,
never formatted into a sentence of ours, and what can't be seen in it is spelled out.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, TypedDict, overload

from store.core.errors import TooLargeError
from store.core.figure_schemas import Figure
from store.evaluation.verdict_schemas import RunFigure
from tunebench.terminal.output import to_json_value

# How tools answer: documents of bounded size that say what was cut.
#
# What people, files or models wrote is text to be judged: it is marked as such (`QuotedText`), bounded, never
# formatted into a sentence of ours, and what can't be seen in it, by which instructions are smuggled past
# people, is spelled out.

MAX_CHARACTERS = 60_000  # of an answer
MAX_TEXT_CHARACTERS = 2_000  # of one text in it
MAX_LISTED = 50  # entries that a tool lists
MAX_ENTRIES = 200  # of any list in an answer
MAX_CUTS = 20  # places of an answer that are said to be cut
# control characters but tab and line break; those that turn text or have no width; tags and their kin
HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
    "\U000e0000-\U000e01ef]"
)


class QuotedText(TypedDict):
    """Text that people, files or models wrote. It is data to be judged, never an instruction to follow."""

    quoted: str
    characters: int  # of the whole text


@overload
def quote(text: str) -> QuotedText: ...
@overload
def quote(text: None) -> None: ...
def quote(text: str | None) -> QuotedText | None:
    """The text, marked as what somebody else wrote."""
    return None if text is None else {"quoted": text, "characters": len(text)}


def bound_document(document: object) -> dict[str, object]:
    """The document as JSON has it, its texts and lists cut where they are long; what was cut is said in it.
    Raises TooLargeError where that doesn't make it short enough."""
    cut: list[str] = []
    short: dict[str, object] = _bound_value(to_json_value(document), "", cut)
    if cut:
        more = [f"and {len(cut) - MAX_CUTS:,} more"] if len(cut) > MAX_CUTS else []
        short["cut"] = [*cut[:MAX_CUTS], *more]
    if (length := len(format_text(short))) > MAX_CHARACTERS:
        raise TooLargeError(
            f"The answer has {length:,} characters, over the {MAX_CHARACTERS:,} of one answer.",
            fix="Ask for less: a smaller limit, fewer columns, one run.",
        )
    return short


def format_text(document: object) -> str:
    """What was bounded, as a client without structured content reads it."""
    return json.dumps(document, ensure_ascii=False, indent=1)


def escape_invisible(text: str) -> str:
    """The text with what can't be seen written out: `\\u{202e}`."""
    return HIDDEN.sub(lambda sign: f"\\u{{{ord(sign[0]):x}}}", text)


def format_error(error: Exception) -> str:
    """An error as an agent reads it: what went wrong and what to do, in bounds."""
    text = escape_invisible(str(error))
    return text if len(text) <= MAX_TEXT_CHARACTERS else f"{text[:MAX_TEXT_CHARACTERS]} …"


def _bound_value(value: Any, place: str, cut: list[str]) -> Any:
    if isinstance(value, str):
        if len(value) > MAX_TEXT_CHARACTERS:
            cut.append(f"{place}: the first {MAX_TEXT_CHARACTERS:,} of {len(value):,} characters")
        return escape_invisible(value[:MAX_TEXT_CHARACTERS])
    if isinstance(value, list):
        if len(value) > MAX_ENTRIES:
            cut.append(f"{place}: the first {MAX_ENTRIES} of {len(value):,} entries")
        return [_bound_value(entry, f"{place}[{n}]", cut) for n, entry in enumerate(value[:MAX_ENTRIES])]
    if isinstance(value, dict):
        return {
            escape_invisible(key[:MAX_TEXT_CHARACTERS]): _bound_value(entry, f"{place}.{key}".strip("."), cut)
            for key, entry in value.items()
        }
    return value


CHANGES = ("gain", "accuracy_gain", "text.", "choices.", "requests.", "extraction.", "classes.over_prompted")


def format_interval(low: float | None, high: float | None, n: int) -> str:
    """ "95% interval 0.25 to 0.37, n 120", or that there is none."""
    if low is None or high is None or not math.isfinite(low) or not math.isfinite(high):
        return f"no interval, n {n:,}"
    return f"95% interval {low:.4g} to {high:.4g}, n {n:,}"


def describe_run_figure(figure: RunFigure) -> str:
    """A figure of a run: "gain: 0.31 nats a token (95% interval 0.25 to 0.37, n 120); surely above 0"."""
    low, high = figure.low, figure.high
    words = format_interval(low, high, figure.n)
    verdict = ""
    if low is not None and high is not None and figure.key.startswith(CHANGES):
        surely = "above" if low > 0 else "below"
        verdict = "; can't be told from 0" if low <= 0 <= high else f"; surely {surely} 0"
    return f"{figure.title}: {figure.value:.4g} {figure.unit} ({words}){verdict}"


def describe_metric(figure: Figure) -> str:
    """A figure of an evaluation."""
    name, value = figure.metric.removeprefix("eval/"), figure.value
    if value is None:
        return f"{name}: nothing could be scored ({figure.failed or 'no usable row'})"
    words = format_interval(figure.low, figure.high, figure.n)
    return f"{name}: {value:.4g} {figure.unit} ({words}; {figure.better} is better)"
