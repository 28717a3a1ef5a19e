"""Steps that change texts turn by turn: fix_encoding, normalise, strip, redact.

A step is a function from a text to a text, applied to every turn, to the rejected answer and to plain texts;
a row is changed where any of them comes back different. A redaction changes the label, and the row as it
stood in the file, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.data.convert.convert import Canonical
from engine.data.convert.turns import RowSkipped
from engine.recipe.cleaning import Stripper, TextEdit, normaliser
from engine.recipe.recipe_rows import canonicals, changed_batch, spoken
from engine.recipe.redaction import Redactor
from engine.recipe.working import BatchChange, Working
from engine.signals.texts.encoding import fixed
from store.config.data.recipe import FixEncoding, Normalise, Redact, Strip

SAID = ("roles", "contents", "text", "label", "rejected")  # fields that are redacted one by one


def run(work: Working, step: FixEncoding | Normalise | Strip | Redact, index: int) -> None:
    """Change the texts of the living rows."""
    if isinstance(step, Redact):
        redactor = Redactor(step.kinds)
        work.redactors.append(redactor)
        work.rewrite(index, lambda batch: _redacted(batch, redactor))
        return
    edit = edit_of(step)
    work.rewrite(index, lambda batch: _edited(batch, edit))


def edit_of(step: FixEncoding | Normalise | Strip) -> TextEdit:
    """What the step does to one text."""
    match step:
        case FixEncoding():
            return fixed
        case Normalise():
            return normaliser(step.unicode, white_space=step.white_space)
        case Strip():
            return Stripper(html=step.html, boilerplate=step.boilerplate)


def _edited(batch: pa.RecordBatch, edit: TextEdit) -> BatchChange | None:
    touched = _touched(batch, edit)
    if not touched.any():
        return None
    made: dict[int, Canonical] = {}
    dropped: dict[int, str] = {}
    for at, row in enumerate(canonicals(batch)):
        if not touched[at]:
            continue
        contents = tuple(edit(content) for content in row.contents)
        text = edit(row.text) if row.roles is None else row.text
        rejected = None if row.rejected is None else edit(row.rejected)
        if row.choices:
            row = row._replace(choices=tuple(edit(choice) for choice in row.choices))
        try:
            made[at] = spoken(row, contents, text, rejected)
        except RowSkipped as fault:
            dropped[at] = str(fault)
    return changed_batch(batch, made, dropped)


def _redacted(batch: pa.RecordBatch, redactor: Redactor) -> BatchChange | None:
    suspects = _suspects(batch, redactor)
    if not suspects.any():
        return None
    made: dict[int, Canonical] = {}
    dropped: dict[int, str] = {}
    sources: dict[int, str] = {}
    old_sources = batch["source"].to_pylist()
    for at, row in enumerate(canonicals(batch)):
        if not suspects[at]:
            continue
        edit = redactor.of_row(_strings(row), old_sources[at])
        others = {name: _mended(value, edit) for name, value in row._asdict().items() if name not in SAID}
        contents = tuple(edit(content) for content in row.contents)
        text = edit(row.text) if row.roles is None else row.text
        rejected = None if row.rejected is None else edit(row.rejected)
        try:
            new = spoken(row._replace(**others), contents, text, rejected)
        except RowSkipped as fault:
            dropped[at] = str(fault)
            continue
        if row.label is not None:
            new = new._replace(label=edit(row.label))
        source = edit.source()
        if new != row or source != old_sources[at]:
            made[at], sources[at] = new, source
    return changed_batch(batch, made, dropped, sources)


def _strings(row: Canonical) -> list[str]:
    """Every text of a row."""
    parts = [value if isinstance(value, tuple) else (value,) for value in row._replace(roles=None)]
    return [text for part in parts for text in part if isinstance(text, str)]


def _mended(value: Any, edit: TextEdit) -> Any:
    """A field that holds a text, texts, or none."""
    if isinstance(value, tuple):
        return tuple(_mended(item, edit) for item in value)
    return edit(value) if isinstance(value, str) else value


def _suspects(batch: pa.RecordBatch, redactor: Redactor) -> np.ndarray:
    """Which rows may have a find in any of their columns: bool, one a row."""
    suspects = np.asarray(redactor.suspects(batch["source"], encoded=True)).astype(bool)
    for name in ("text", "label", "rejected"):
        suspects |= np.asarray(redactor.suspects(batch[name])).astype(bool)
    messages = batch["messages"]
    places = np.repeat(np.arange(batch.num_rows), messages.value_lengths().fill_null(0).to_numpy())
    turns = np.asarray(redactor.suspects(messages.flatten().field("content"))).astype(bool)
    suspects[places[turns]] = True
    return suspects


def _touched(batch: pa.RecordBatch, edit: TextEdit) -> np.ndarray:
    """Which rows have a text that changes, without making rows of those that have none: bool, one a row."""
    messages = batch["messages"]
    counts = messages.value_lengths().fill_null(0).to_numpy()
    places = np.repeat(np.arange(batch.num_rows), counts)
    touched = np.zeros(batch.num_rows, bool)
    touched[places[_differs(messages.flatten().field("content"), edit)]] = True
    if batch["rejected"].null_count < batch.num_rows:
        touched |= _differs(batch["rejected"], edit)
    if messages.null_count:
        touched |= _differs(batch["text"], edit) & messages.is_null().to_numpy(zero_copy_only=False)
    return touched


def _differs(texts: pa.Array, edit: TextEdit) -> np.ndarray:
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
