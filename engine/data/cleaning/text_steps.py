"""Cleaning steps that change texts turn by turn: fix_encoding, normalise, strip and redact.

A step is a function from text to text, applied to every turn, the rejected answer and plain texts; a row is
changed if any of them changes. The steps use the detectors of `engine.data.signals`, so a step changes
exactly the rows that a finding counts. What redaction finds in one text of a row is replaced in all of them,
including the label and the source row.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.data.cleaning.working_rows import (
    BatchChange,
    WorkingRows,
    build_batch_change,
    read_canonical_rows,
    replace_texts,
)
from engine.data.conversion.row_conversion import CanonicalRow
from engine.data.readers import file_rows
from engine.data.readers.file_rows import RowSkipped
from engine.data.signals.encoding_damage import repair_text
from engine.data.signals.identifiers import PersonalSpan
from engine.data.signals.personal_data import FINDERS, find_personal_data
from engine.data.signals.text_checks import BOILERPLATE, HTML, strip_html
from store.data.cleaning import FixEncoding, Normalise, Redact, Strip

# Each function returns the same text if there is nothing to do. Indentation at the start of a line is never
# changed.

_BLANKS = "\t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000 "
_RUNS = re.compile(rf"(?<=[^{_BLANKS}\n])[{_BLANKS}]{{2,}}(?=[^{_BLANKS}\n])")  # not at the start of a line
# The lookbehind matches each run only once, from its start.
_TRAILING = re.compile(rf"[{_BLANKS}](?<![{_BLANKS}]{{2}})[{_BLANKS}]*(?=\n|\Z)")
_BLANK_LINES = re.compile(r"\n{3,}")
_UNUSUAL = re.compile("[\t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]|  |\n\n\n| \n| \\Z")
_BOILERPLATE = re.compile(BOILERPLATE)

TextEdit = Callable[[str], str]


def make_normaliser(form: Literal["NFC", "NFKC", "none"], *, white_space: bool) -> TextEdit:
    r"""Make a function that applies one Unicode form and converts line ends to \n.

    With `white_space`, it also collapses runs of blanks within a line, removes trailing blanks, and leaves at
    most one blank line in a row.
    """

    def normalised(text: str) -> str:
        if form != "none" and not text.isascii():
            text = unicodedata.normalize(form, text)
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if white_space and _UNUSUAL.search(text):
            text = _TRAILING.sub("", _RUNS.sub(" ", text))
            text = _BLANK_LINES.sub("\n\n", text).replace("\u00a0", " ")
        return text

    return normalised


class Stripper:
    """Strip surrounding white space and, if enabled, HTML tags and entities and boilerplate lines.

    `pattern`: RE2; texts that don't match it only need `light`, which is much faster.
    """

    def __init__(self, *, html: bool, boilerplate: bool) -> None:
        self.html, self.boilerplate = html, boilerplate
        self.pattern = "|".join(f"(?:{p})" for p, on in ((HTML, html), (BOILERPLATE, boilerplate)) if on)

    @staticmethod
    def light(text: str) -> str:
        """Strip white space only."""
        return text.strip()

    def __call__(self, text: str) -> str:
        if self.html:
            text = strip_html(text)
        if self.boilerplate and _BOILERPLATE.search(text):
            text = "\n".join(line for line in text.split("\n") if not _BOILERPLATE.search(line))
        return text.strip()


# Placeholders such as [EMAIL] for personal data and secrets found by `engine.data.signals.personal_data`.
#
# What is found in one text of a row is replaced in all of them: in its turns, label, rejected answer, and in
# every column of the source row, including unused ones.

SHORTEST_REDACTED = 5  # minimum characters of a finding that is searched for in the other texts of its row
_ESCAPES = r'\\["\\/bfnrt]'  # JSON escapes: an escape before a word is not part of the word


class Redactor:
    """Replace every finding of these kinds by a placeholder.

    `pattern`: RE2; a text that doesn't match it has no finding, which is much faster to check.
    """

    def __init__(self, kinds: Collection[str]) -> None:
        self.kinds = frozenset(kinds)
        self.pattern = "|".join(f"(?:{FINDERS[kind].gate})" for kind in sorted(self.kinds))

    def suspects(self, texts: pa.Array, *, encoded: bool = False) -> pa.BooleanArray:
        """Return which texts may have a finding; null counts as none. `encoded`: the texts are JSON."""
        if encoded:
            texts = pc.replace_substring_regex(texts, _ESCAPES, " ")
        return pc.fill_null(pc.match_substring_regex(texts, self.pattern), False)

    def of_row(self, texts: Iterable[str], source: str) -> RowRedactor:
        """Return the redactor of one row: its texts, and its source row as a JSON object."""
        return RowRedactor(self.kinds, texts, source)

    def __call__(self, text: str) -> str:
        return _replace_spans(text, find_personal_data(text, self.kinds))


class RowRedactor:
    """Replace what is found in any text of a row by placeholders in all of its texts."""

    def __init__(self, kinds: Collection[str], texts: Iterable[str], source: str) -> None:
        self._kinds = kinds
        self._spans: dict[str, list[PersonalSpan]] = {}
        self._source, self._columns = source, json.loads(source)
        self._kind_of: dict[str, str] = {}  # text -> kind
        for text in texts:
            self._note(text)
        for name, value in _iterate_values(self._columns):
            self._note(value)
            self._note(f"{name}: {value}", len(name) + 2)  # the name may tell what kind of number it is
        long = sorted(
            (text for text in self._kind_of if len(text) >= SHORTEST_REDACTED), key=len, reverse=True
        )
        self._again = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, long))})(?!\w)") if long else None

    def __call__(self, text: str) -> str:
        spans = self._spans[text] if text in self._spans else find_personal_data(text, self._kinds)
        replaced = _replace_spans(text, spans)
        if self._again is None:
            return replaced
        return self._again.sub(lambda match: _format_placeholder(self._kind_of[match[0]]), replaced)

    def source(self) -> str:
        """Return the source row with the findings redacted."""
        columns = {name: self._without(value) for name, value in self._columns.items()}
        return self._source if columns == self._columns else file_rows.encode_row(columns).decode("utf-8")

    def _note(self, text: str, begin: int = 0) -> None:
        spans = find_personal_data(text, self._kinds)
        if not begin:
            self._spans[text] = spans
        for span in spans:
            if span.start >= begin:
                self._kind_of.setdefault(text[span.start : span.end], span.kind)

    def _without(self, value: Any) -> Any:
        if isinstance(value, str):
            return _format_placeholder(self._kind_of[value]) if value in self._kind_of else self(value)
        if isinstance(value, dict):
            return {self(key): self._without(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._without(item) for item in value]
        if _is_number(value) and str(value) in self._kind_of:
            return _format_placeholder(self._kind_of[str(value)])
        return value


def _iterate_values(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text and number with the name of the key that holds it."""
    if isinstance(value, dict):
        for key, item in value.items():
            if name:
                yield name, key
            yield from _iterate_values(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _iterate_values(item, name)
    elif isinstance(value, str) or _is_number(value):
        yield name, str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _format_placeholder(kind: str) -> str:
    return f"[{kind.upper()}]"


def _replace_spans(text: str, spans: list[PersonalSpan]) -> str:
    parts, end = [], 0
    for span in spans:
        parts += [text[end : span.start], _format_placeholder(span.kind)]
        end = span.end
    return "".join([*parts, text[end:]]) if parts else text


REDACTED_FIELDS = ("roles", "contents", "text", "label", "rejected")  # fields that are redacted individually


def change_texts(work: WorkingRows, step: FixEncoding | Normalise | Strip | Redact, index: int) -> None:
    """Change the texts of the living rows."""
    if isinstance(step, Redact):
        redactor = Redactor(step.kinds)
        work.redactors.append(redactor)
        work.rewrite(index, lambda batch: _redact_batch(batch, redactor))
        return
    edit = make_edit(step)
    work.rewrite(index, lambda batch: _edit_batch(batch, edit))


def make_edit(step: FixEncoding | Normalise | Strip) -> TextEdit:
    """Return the text function of the step."""
    match step:
        case FixEncoding():
            return repair_text
        case Normalise():
            return make_normaliser(step.unicode, white_space=step.white_space)
        case Strip():
            return Stripper(html=step.html, boilerplate=step.boilerplate)


def _edit_batch(batch: pa.RecordBatch, edit: TextEdit) -> BatchChange | None:
    touched = _find_changed_rows(batch, edit)
    if not touched.any():
        return None
    made: dict[int, CanonicalRow] = {}
    dropped: dict[int, str] = {}
    for at, row in enumerate(read_canonical_rows(batch)):
        if not touched[at]:
            continue
        contents = tuple(edit(content) for content in row.contents)
        text = edit(row.text) if row.roles is None else row.text
        rejected = None if row.rejected is None else edit(row.rejected)
        if row.choices:
            row = row._replace(choices=tuple(edit(choice) for choice in row.choices))
        try:
            made[at] = replace_texts(row, contents, text, rejected)
        except RowSkipped as fault:
            dropped[at] = str(fault)
    return build_batch_change(batch, made, dropped)


def _redact_batch(batch: pa.RecordBatch, redactor: Redactor) -> BatchChange | None:
    suspects = _find_suspects(batch, redactor)
    if not suspects.any():
        return None
    made: dict[int, CanonicalRow] = {}
    dropped: dict[int, str] = {}
    sources: dict[int, str] = {}
    old_sources = batch["source"].to_pylist()
    for at, row in enumerate(read_canonical_rows(batch)):
        if not suspects[at]:
            continue
        fields = [value if isinstance(value, tuple) else (value,) for value in row._replace(roles=None)]
        strings = [part for field in fields for part in field if isinstance(part, str)]
        edit = redactor.of_row(strings, old_sources[at])
        others = {
            name: _edit_value(value, edit)
            for name, value in row._asdict().items()
            if name not in REDACTED_FIELDS
        }
        contents = tuple(edit(content) for content in row.contents)
        text = edit(row.text) if row.roles is None else row.text
        rejected = None if row.rejected is None else edit(row.rejected)
        try:
            new = replace_texts(row._replace(**others), contents, text, rejected)
        except RowSkipped as fault:
            dropped[at] = str(fault)
            continue
        if row.label is not None:
            new = new._replace(label=edit(row.label))
        source = edit.source()
        if new != row or source != old_sources[at]:
            made[at], sources[at] = new, source
    return build_batch_change(batch, made, dropped, sources)


def _edit_value(value: Any, edit: TextEdit) -> Any:
    """Apply the edit to a field that holds a text, a tuple of texts, or None."""
    if isinstance(value, tuple):
        return tuple(_edit_value(item, edit) for item in value)
    return edit(value) if isinstance(value, str) else value


def _find_suspects(batch: pa.RecordBatch, redactor: Redactor) -> np.ndarray:
    """Return a boolean mask of the rows that may have a finding in any of their columns."""
    suspects = np.asarray(redactor.suspects(batch["source"], encoded=True)).astype(bool)
    for name in ("text", "label", "rejected"):
        suspects |= np.asarray(redactor.suspects(batch[name])).astype(bool)
    messages = batch["messages"]
    places = np.repeat(np.arange(batch.num_rows), messages.value_lengths().fill_null(0).to_numpy())
    turns = np.asarray(redactor.suspects(messages.flatten().field("content"))).astype(bool)
    suspects[places[turns]] = True
    return suspects


def _find_changed_rows(batch: pa.RecordBatch, edit: TextEdit) -> np.ndarray:
    """Return a boolean mask of the rows with a text that changes; builds no row objects for the others."""
    messages = batch["messages"]
    counts = messages.value_lengths().fill_null(0).to_numpy()
    places = np.repeat(np.arange(batch.num_rows), counts)
    touched = np.zeros(batch.num_rows, bool)
    touched[places[_find_changed_texts(messages.flatten().field("content"), edit)]] = True
    if batch["rejected"].null_count < batch.num_rows:
        touched |= _find_changed_texts(batch["rejected"], edit)
    if messages.null_count:
        touched |= _find_changed_texts(batch["text"], edit) & messages.is_null().to_numpy(
            zero_copy_only=False
        )
    return touched


def _find_changed_texts(texts: pa.Array, edit: TextEdit) -> np.ndarray:
    values = texts.to_pylist()
    if isinstance(edit, Stripper):
        light = edit.light
        if edit.pattern:
            heavy = pc.match_substring_regex(texts, edit.pattern).to_pylist()
            pairs = zip(values, heavy, strict=True)
            changes = (v is not None and (edit if h else light)(v) != v for v, h in pairs)
            return np.fromiter(changes, bool, len(values))
        edit = light
    return np.fromiter((text is not None and edit(text) != text for text in values), bool, len(values))
