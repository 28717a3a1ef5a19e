"""Functions of SQL that make a text or a list as large as a number says: how large they may make it.

DuckDB works a call out at one go, for constants before the statement even begins: it can't be interrupted
in it, and what it makes is outside its memory limit. `length(rpad('a', 2000000000, 'b'))` is busy for more
than a minute and takes gigabytes. So the size of every such call must stand there as a number, and be small.
In FROM, `range` and `generate_series` make rows one by one and may go as far as they like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

MOST = 10_000  # characters or entries that one call may make
_SIZED = {"rpad": 1, "lpad": 1, "list_resize": 1, "array_resize": 1, "bitstring": 1}  # place of the size
_SERIES = ("range", "generate_series")
_FORMATS = {  # a width that is long, or that comes from a value
    "printf": re.compile(r"%[^A-Za-z%]*(?:[0-9]{4}|\*)"),
    "format": re.compile(r"\{[^}]*(?:[0-9]{4}|\{)"),
}
GROWING = frozenset({*_SIZED, *_SERIES, *_FORMATS, "repeat"})

Node = dict[str, Any]


def oversized(tree: Any) -> tuple[str, int] | None:
    """The first call in DuckDB's serialised tree whose size isn't a small number: what is wrong with it, and
    where it stands (in bytes)."""
    return next(_faults(tree, within=False), None)


def _faults(value: Any, *, within: bool) -> Iterator[tuple[str, int]]:
    """`within`: inside of such a call or of a lambda, where sizes would multiply."""
    if isinstance(value, list):
        for item in value:
            yield from _faults(item, within=within)
        return
    if not isinstance(value, dict):
        return
    if value.get("type") == "TABLE_FUNCTION" and "arguments" in value.get("function", ()):
        yield from _faults(value["function"]["arguments"], within=within)
        value = {key: part for key, part in value.items() if key != "function"}
    name = str(value.get("function_name", "")).lower()
    if name in GROWING:
        if why := _fault(name, value, within):
            yield f"{name} {why}", int(value["query_location"])
        within = True
    within = within or value.get("class") == "LAMBDA"
    for part in value.values():
        yield from _faults(part, within=within)


def _fault(name: str, call: Node, within: bool) -> str:
    if within:
        return "stands inside of another call that makes texts or lists, where their sizes multiply"
    given = [_literal(argument["expression"]) for argument in call["arguments"]]
    if name in _FORMATS:
        text = given[0] if given else None
        if not isinstance(text, str) or _FORMATS[name].search(text):
            return "needs a plain text as its first value, with widths below 1,000"
        return ""
    size = _size(name, given)
    if size is None:
        return "needs its size as a plain number, not one that is worked out"
    return f"makes more than {MOST:,} characters or entries" if size > MOST else ""


def _size(name: str, given: list[int | str | None]) -> int | None:
    """What the call makes at most; None where its arguments don't say."""
    if name in _SIZED:
        size = given[_SIZED[name]] if len(given) > _SIZED[name] else 0
        return size if isinstance(size, int) else None
    if name == "repeat":
        what, times = given if len(given) == 2 else (None, None)
        return len(what) * times if isinstance(what, str) and isinstance(times, int) else None
    bounds = [bound for bound in given if isinstance(bound, int)]
    if not bounds or len(bounds) != len(given):
        return None
    return abs(bounds[1] - bounds[0] if len(bounds) > 1 else bounds[0])


def _literal(node: Node) -> int | str | None:
    """A whole number or a text that stands there as it is."""
    literal = node.get("literal") or {}
    if literal.get("kind") == "STRING":
        return str(literal["text"])
    if literal.get("kind") == "INTEGER":
        return int(literal["text"])
    return None
