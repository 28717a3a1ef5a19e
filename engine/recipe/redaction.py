"""Placeholders in place of personal data and secrets: what `engine.signals.personal.pii` finds, as [EMAIL].

What is found in one text of a row goes from all of them: from its turns, its label, its rejected answer, and
from every column of the row as it stood in the file, also those that nothing was read from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.data.readers import source_json
from engine.signals.personal.pii import FINDERS, find
from engine.signals.personal.spans import PersonalSpan

SHORTEST = 5  # characters of a find that is looked for in other texts of its row
_ESCAPES = r'\\["\\/bfnrt]'  # of JSON: what stands before a word is no part of it


class Redactor:
    """Puts a placeholder in place of each find of these kinds.

    `pattern`: RE2; a text that it does not match has no find, which is much faster to know.
    """

    def __init__(self, kinds: Collection[str]) -> None:
        self.kinds = frozenset(kinds)
        self.pattern = "|".join(f"(?:{FINDERS[kind].gate})" for kind in sorted(self.kinds))

    def suspects(self, texts: pa.Array, *, encoded: bool = False) -> pa.BooleanArray:
        """Which texts may have a find; `encoded`: they are JSON. Null counts as none."""
        if encoded:
            texts = pc.replace_substring_regex(texts, _ESCAPES, " ")
        return pc.fill_null(pc.match_substring_regex(texts, self.pattern), False)

    def of_row(self, texts: Iterable[str], source: str) -> RowRedactor:
        """For the texts of one row and the row as it stood in the file, a JSON object."""
        return RowRedactor(self.kinds, texts, source)

    def __call__(self, text: str) -> str:
        return _replaced(text, find(text, self.kinds))


class RowRedactor:
    """Puts placeholders into the texts of one row: what was found in any of them goes from each."""

    def __init__(self, kinds: Collection[str], texts: Iterable[str], source: str) -> None:
        self._kinds = kinds
        self._spans: dict[str, list[PersonalSpan]] = {}
        self._source, self._columns = source, json.loads(source)
        self._kind_of: dict[str, str] = {}  # text -> kind
        for text in texts:
            self._note(text)
        for name, value in _values(self._columns):
            self._note(value)
            self._note(f"{name}: {value}", len(name) + 2)  # the name may say what the number is
        long = sorted((text for text in self._kind_of if len(text) >= SHORTEST), key=len, reverse=True)
        self._again = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, long))})(?!\w)") if long else None

    def __call__(self, text: str) -> str:
        spans = self._spans[text] if text in self._spans else find(text, self._kinds)
        replaced = _replaced(text, spans)
        if self._again is None:
            return replaced
        return self._again.sub(lambda match: _placeholder(self._kind_of[match[0]]), replaced)

    def source(self) -> str:
        """The row as it stood in the file, without what was found."""
        columns = {name: self._without(value) for name, value in self._columns.items()}
        return self._source if columns == self._columns else source_json.encode(columns).decode("utf-8")

    def _note(self, text: str, begin: int = 0) -> None:
        spans = find(text, self._kinds)
        if not begin:
            self._spans[text] = spans
        for span in spans:
            if span.start >= begin:
                self._kind_of.setdefault(text[span.start : span.end], span.kind)

    def _without(self, value: Any) -> Any:
        if isinstance(value, str):
            return _placeholder(self._kind_of[value]) if value in self._kind_of else self(value)
        if isinstance(value, dict):
            return {self(key): self._without(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._without(item) for item in value]
        if _is_number(value) and str(value) in self._kind_of:
            return _placeholder(self._kind_of[str(value)])
        return value


def _values(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text and number with the name of what holds it."""
    if isinstance(value, dict):
        for key, item in value.items():
            if name:
                yield name, key
            yield from _values(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _values(item, name)
    elif isinstance(value, str) or _is_number(value):
        yield name, str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _placeholder(kind: str) -> str:
    return f"[{kind.upper()}]"


def _replaced(text: str, spans: list[PersonalSpan]) -> str:
    parts, end = [], 0
    for span in spans:
        parts += [text[end : span.start], _placeholder(span.kind)]
        end = span.end
    return "".join([*parts, text[end:]]) if parts else text
