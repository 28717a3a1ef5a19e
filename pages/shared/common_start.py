"""Texts that begin alike, shown by what differs: rows of one template would else be the same line many times.

Pure functions. What is left out is marked with "…" and said in a sentence, with how many rows it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pages.shared.conversation import shortened_middle

LEAST = 24  # characters that texts must share before it is worth leaving them out
SHOWN = 300  # characters of a text in a table
NAMED = 80  # characters of the beginning that the sentence repeats

Cell = dict[str, Any]


def common_start(texts: Sequence[str]) -> str:
    """The longest beginning, to the end of a word, that all of these texts share, else more than half of
    them; "" where it is short, or the texts are one text."""
    ordered = sorted(set(texts))  # in this order, texts between two that begin alike begin so too
    if len(ordered) < 2:
        return ""
    for size in dict.fromkeys((len(ordered), max(2, len(ordered) // 2 + 1))):
        ends = zip(ordered, ordered[size - 1 :], strict=False)
        start = max((_shared(*pair) for pair in ends), key=len)
        if any(space in start for space in " \n\t"):
            start = start[: max(start.rfind(space) for space in " \n\t") + 1]
        if len(start) >= LEAST:
            return start
    return ""


def _shared(first: str, other: str) -> str:
    differs = (at for at, (a, b) in enumerate(zip(first, other, strict=False)) if a != b)
    return first[: next(differs, min(len(first), len(other)))]


def differing(cells: Sequence[Cell], titles: Mapping[str, str]) -> tuple[list[Cell], str]:
    """The cells with "…" in place of what most of a column's texts begin with, cut to what a table shows; and
    what was left out, in words. `titles`: the columns of text."""
    shortened, sentences = [dict(cell) for cell in cells], []
    for name, title in titles.items():
        start = common_start([str(cell[name]) for cell in cells if cell.get(name)])
        alike = [cell for cell in shortened if start and str(cell.get(name) or "").startswith(start)]
        for cell in alike:
            cell[name] = f"… {cell[name][len(start) :]}"
        for cell in shortened:
            text = cell.get(name)
            if text and len(text) > SHOWN:
                cell[name] = f"{text[:SHOWN]}…"
        if alike:
            begin = shortened_middle(" ".join(start.split()), NAMED)
            how_many = (
                f"all {len(shortened)}"
                if len(alike) == len(shortened)
                else f"{len(alike)} of these {len(shortened)}"
            )
            sentences.append(f"{title}: {how_many} begin with “{begin}”, shown as “…”.")
    return shortened, " ".join(sentences)
