"""A place in a text that something was found at, and what surrounds it."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable
from typing import NamedTuple

PARAGRAPH = "\n\n"  # joins the turns of a row: no finder looks across it, so that a turn alone reads the same


class PersonalSpan(NamedTuple):
    """`text[start:end]` is of this kind."""

    start: int
    end: int
    kind: str


def before(text: str, start: int, size: int) -> str:
    """Up to `size` characters before a place, of the same paragraph, in lower case."""
    return text[max(0, start - size) : start].rpartition(PARAGRAPH)[2].lower()


def without_overlaps(spans: Iterable[PersonalSpan]) -> list[PersonalSpan]:
    """The spans in the order of the text; of those that overlap, the one that was found first."""
    kept: list[
        PersonalSpan
    ] = []  # sorted: only two neighbours can overlap, and a long text has thousands of finds
    for span in spans:
        at = bisect(kept, span)
        if (not at or kept[at - 1].end <= span.start) and (at == len(kept) or span.end <= kept[at].start):
            kept.insert(at, span)
    return kept
