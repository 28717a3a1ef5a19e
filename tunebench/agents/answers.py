"""How tools answer: JSON of bounded size that says what was cut, and errors as the project says them.

Figures carry their interval, their n and, where they are a change, whether they can be told from noise. What
people or models wrote is text to be judged; it is bounded, and never formatted into instructions.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from typing import Any, ParamSpec

from mcp.server.mcpserver.exceptions import ToolError

from store.contract.errors import TunebenchError
from store.contract.rights import TOOLS
from store.contract.roles import check_right
from store.documents.runs.bundle import RunFigure
from store.http.client import Client
from tunebench.terminal.output import plain

MOST_CHARACTERS = 60_000  # of an answer
TEXT_CHARACTERS = 2_000  # of one text in it
MOST_LISTED = 50  # entries of a list
CHANGES = ("gain", "accuracy_gain", "text.", "choices.", "requests.", "extraction.", "classes.over_prompted")

P = ParamSpec("P")


def tool(function: Callable[P, object], connect: Callable[[], Client]) -> Callable[P, str]:
    """The function as a tool, for those who have its right: its document as text, what it refuses as a
    sentence."""

    @functools.wraps(function)
    def answered(*args: P.args, **kwargs: P.kwargs) -> str:
        try:
            check_right(connect().me(), TOOLS.get(function.__name__))
            return as_text(function(*args, **kwargs))
        except TunebenchError as error:
            raise ToolError(str(error)) from error

    answered.__annotations__ = {**function.__annotations__, "return": str}
    return answered


def as_text(document: object) -> str:
    """The document as JSON, its texts and lists cut where they are long; what was cut is said in it."""
    cut: list[str] = []
    short = _bounded(plain(document), "", cut)
    if cut and isinstance(short, dict):
        short["cut"] = cut[:20]
    text = json.dumps(short, ensure_ascii=False, indent=1)
    if len(text) > MOST_CHARACTERS:
        raise ToolError(
            f"The answer has {len(text):,} characters, over the {MOST_CHARACTERS:,} of one answer. Ask for"
            " less: a smaller limit, fewer columns, one run."
        )
    return text


def _bounded(value: Any, place: str, cut: list[str]) -> Any:
    if isinstance(value, str) and len(value) > TEXT_CHARACTERS:
        cut.append(f"{place}: the first {TEXT_CHARACTERS:,} of {len(value):,} characters")
        return value[:TEXT_CHARACTERS]
    if isinstance(value, list):
        if len(value) > MOST_LISTED * 4:
            cut.append(f"{place}: the first {MOST_LISTED * 4} of {len(value):,} entries")
        return [_bounded(entry, f"{place}[{n}]", cut) for n, entry in enumerate(value[: MOST_LISTED * 4])]
    if isinstance(value, dict):
        return {key: _bounded(entry, f"{place}.{key}".strip("."), cut) for key, entry in value.items()}
    return value


def figure_words(figure: RunFigure) -> str:
    """A figure with what is to be thought of it: "gain: 0.31 nats a token (95% interval 0.25 to 0.37, n
    120)"."""
    low, high = figure["low"], figure["high"]
    if low is None or high is None or not math.isfinite(low) or not math.isfinite(high):
        return f"{figure['title']}: {figure['value']:.4g} {figure['unit']} (no interval, n {figure['n']:,})"
    interval = f"95% interval {low:.4g} to {high:.4g}, n {figure['n']:,}"
    verdict = ""
    if figure["key"].startswith(CHANGES):
        surely = "above" if low > 0 else "below"
        verdict = "; can't be told from 0" if low <= 0 <= high else f"; surely {surely} 0"
    return f"{figure['title']}: {figure['value']:.4g} {figure['unit']} ({interval}){verdict}"
