"""Steps that change texts turn by turn: fix_encoding, normalise, strip, redact.

A step is a function from a text to a text, applied to every turn, to the rejected answer and to plain texts;
a row is changed where any of them comes back different.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.data.convert import Canonical
from engine.data.recipe.cleaning import Stripper, fixed, normaliser
from engine.data.recipe.redaction import Redactor
from engine.data.recipe.rows import canonicals, changed_batch, spoken
from engine.data.recipe.working import Change, Working
from engine.data.turns import RowSkipped
from store.recipe import FixEncoding, Normalise, Redact, Strip

Edit = Callable[[str], str]


def run(work: Working, step: FixEncoding | Normalise | Strip | Redact, index: int) -> None:
    """Change the texts of the living rows."""
    edit = edit_of(step)
    work.rewrite(index, lambda batch: _edited(batch, edit))


def edit_of(step: FixEncoding | Normalise | Strip | Redact) -> Edit:
    """What the step does to one text."""
    match step:
        case FixEncoding():
            return fixed
        case Normalise():
            return normaliser(step.unicode, white_space=step.white_space)
        case Strip():
            return Stripper(html=step.html, boilerplate=step.boilerplate)
        case Redact():
            return Redactor(step.kinds)


def _edited(batch: pa.RecordBatch, edit: Edit) -> Change | None:
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


def _touched(batch: pa.RecordBatch, edit: Edit) -> np.ndarray:
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


def _differs(texts: pa.Array, edit: Edit) -> np.ndarray:
    values = texts.to_pylist()
    if isinstance(edit, Stripper | Redactor):
        light = edit.light
        if edit.pattern:
            heavy = pc.match_substring_regex(texts, edit.pattern).to_pylist()
            pairs = zip(values, heavy, strict=True)
            changes = (v is not None and (edit if h else light)(v) != v for v, h in pairs)
            return np.fromiter(changes, bool, len(values))
        edit = light
    return np.fromiter((text is not None and edit(text) != text for text in values), bool, len(values))
