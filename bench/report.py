"""Figures of a bench with their limits, as a table: the result of each section of `bench/data.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass
class Figure:
    """A measured number. With a `limit` it must be at least that (`sense` "≥") or at most that ("≤")."""

    name: str
    value: float
    unit: str = ""
    limit: float | None = None
    sense: Literal["≥", "≤"] = "≥"
    digits: int = 0

    @property
    def missed(self) -> bool:
        """Whether the limit is missed; NaN misses any limit."""
        if self.limit is None:
            return False
        return not (self.value >= self.limit if self.sense == "≥" else self.value <= self.limit)


class Skipped(Exception):
    """A section can't be measured here, for the given reason."""


@dataclass
class Section:
    """The figures measured under one heading, or why they were not."""

    title: str
    figures: list[Figure]
    skipped: str = ""

    def show(self) -> None:
        """Print it as a table."""
        print(f"\n{self.title}")
        if self.skipped:
            print(f"  skipped: {self.skipped}")
        for figure in self.figures:
            value = f"{figure.value:,.{figure.digits}f}"
            limit = "" if figure.limit is None else f"{figure.sense} {figure.limit:,.{figure.digits}f}"
            verdict = "" if figure.limit is None else "MISSED" if figure.missed else "met"
            print(f"  {figure.name:<52}{value:>12} {figure.unit:<10}{limit:>12} {verdict}")


def ended(
    figures: dict[str, Any], missed: list[str], show: Callable[[dict[str, Any]], None], json_too: bool
) -> int:
    """Print the figures of a bench and the limits that they miss; return its exit code."""
    if json_too:
        print(json.dumps({**figures, "missed": missed}))
    else:
        show(figures)
        for problem in missed:
            print(f"MISSED: {problem}")
    return 1 if missed else 0


def as_json(sections: list[Section]) -> str:
    """Return all sections as one document, with the names of the figures that missed their limit."""
    missed = [figure.name for section in sections for figure in section.figures if figure.missed]
    return json.dumps({"sections": [asdict(section) for section in sections], "missed": missed})
