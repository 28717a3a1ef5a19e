"""Which constraints an answer keeps (`store.config.measuring.constraints` describes them): every check is a
small function.

An empty answer keeps no constraint, also not that of having at most 50 words: it does not follow instructions
to say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from engine.diagnostics.statistics.statistics import wilson_interval
from engine.metrics.form import regex, valid_json
from engine.rows.characters import characters
from engine.signals.texts import language
from store.config.measuring.constraints import (
    CaseConstraint,
    Constraint,
    ContainsConstraint,
    CountConstraint,
    EndConstraint,
    ExcludesConstraint,
    LanguageConstraint,
    PatternConstraint,
)
from store.documents.evaluations.metric_details import ConstraintShare

_SENTENCE = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？]+")
_BULLET = re.compile(r"^[ \t]*(?:[-*+•–]|\d{1,3}[.)])[ \t]+\S", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}[ \t]+\S", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\[[^\[\]\n]{1,80}\]")
_PARAGRAPH = re.compile(r"\n[ \t]*\n")


def _sentences(text: str) -> int:
    ends = list(_SENTENCE.finditer(text))
    rest = text[ends[-1].end() :] if ends else text
    return len(ends) + bool(rest.strip())


COUNTS: dict[str, Callable[[str], int]] = {
    "characters": characters,
    "words": lambda text: len(text.split()),
    "sentences": _sentences,
    "lines": lambda text: sum(bool(line.strip()) for line in text.splitlines()),
    "paragraphs": lambda text: sum(bool(part.strip()) for part in _PARAGRAPH.split(text)),
    "bullets": lambda text: len(_BULLET.findall(text)),
    "headings": lambda text: len(_HEADING.findall(text)),
    "placeholders": lambda text: len(_PLACEHOLDER.findall(text)),
}


def kept(texts: Sequence[str], constraints: Sequence[Constraint]) -> np.ndarray:
    """Whether each answer keeps each constraint: booleans [rows, constraints]."""
    bare = [text.strip() for text in texts]
    has_text = np.array([bool(text) for text in bare], bool)
    columns = [_column(bare, constraint) & has_text for constraint in constraints]
    return np.column_stack(columns) if columns else np.ones((len(texts), 0), bool)


def shares(texts: Sequence[str], met: np.ndarray, constraints: Sequence[Constraint]) -> list[ConstraintShare]:
    """How many of the answers keep each constraint."""
    return [
        {
            "constraint": constraint.words(),
            **wilson_interval(int(met[:, place].sum()), len(texts)).to_dict(),
        }
        for place, constraint in enumerate(constraints)
    ]


def _column(texts: list[str], constraint: Any) -> np.ndarray:
    """Those kinds that are asked of all texts at once, and the others text by text."""
    if isinstance(constraint, PatternConstraint):
        return (regex(texts, constraint.pattern) == 1) == (constraint.kind == "matches")
    if isinstance(constraint, LanguageConstraint):
        languages = language.tell([""] * len(texts), texts)
        return np.array([code == constraint.language for code, _ in languages], bool)
    if constraint.kind == "json":
        return valid_json(texts) == 1
    return np.array([_keeps(text, constraint) for text in texts], bool)


def _keeps(text: str, constraint: Any) -> bool:
    if isinstance(constraint, CountConstraint):
        return _between(COUNTS[constraint.kind](text), constraint)
    if isinstance(constraint, CaseConstraint):
        return {"lower": text.islower, "upper": text.isupper, "title": text.istitle}[constraint.case]()
    fold: Callable[[str], str] = str.casefold if constraint.ignore_case else str
    text = fold(text)
    if isinstance(constraint, EndConstraint):
        end = fold(constraint.text.strip())
        return text.startswith(end) if constraint.kind == "starts_with" else text.endswith(end)
    if isinstance(constraint, ExcludesConstraint):
        return not any(fold(part) in text for part in constraint.texts)
    return _contains(text, [fold(part) for part in constraint.texts], constraint)


def _contains(text: str, parts: list[str], constraint: ContainsConstraint) -> bool:
    if constraint.at_least is None and constraint.at_most is None:
        return all(part in text for part in parts)
    return all(_between(text.count(part), constraint) for part in parts)


def _between(count: int, bounds: Any) -> bool:
    return (bounds.at_least is None or count >= bounds.at_least) and (
        bounds.at_most is None or count <= bounds.at_most
    )
