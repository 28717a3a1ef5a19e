"""Rows of a batch as conversations and back: what a step changed is stored as an import would have stored it.

Text, digest and label of a changed row are made anew from its turns. A system turn that a step emptied is
left out; a row in which a question or an answer was emptied can't be trained on, and is dropped with that
reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from engine.data.convert.convert import Canonical
from engine.data.convert.turns import OURS, RowSkipped
from engine.data.convert.writer import turn_arrays
from engine.near.digest import digest
from engine.recipe.working import BatchChange
from engine.rows.dataset import SCHEMA
from store.catalog.choice_text import shows

EMPTIED = {"user": "nothing is left of a question", "assistant": "nothing is left of an answer"}


def canonicals(batch: pa.RecordBatch) -> Iterator[Canonical]:
    """The rows of a batch as they are stored; columns that it lacks, such as choices, are none."""
    turn_list = batch["messages"].flatten()
    roles, contents = turn_list.field("role").to_pylist(), turn_list.field("content").to_pylist()
    lengths = turn_counts(batch)
    end = 0
    nothing = [None] * batch.num_rows
    choices, *columns = (
        batch[name].to_pylist() if name in batch.schema.names else nothing
        for name in ("choices", "text", "label", "rejected", "answer_index", "part")
    )
    missing = batch["messages"].is_null().to_pylist()
    rows = zip(lengths, missing, choices, *columns, strict=True)
    for count, no_turns, some, text, label, rejected, answer, part in rows:
        start, end = end, end + count
        turns = None if no_turns else tuple(roles[start:end])
        options = None if some is None else tuple(some)
        yield Canonical(turns, tuple(contents[start:end]), text, label, rejected, options, answer, part)


def turn_counts(batch: pa.RecordBatch) -> list[int]:
    """Turns of each row, 0 for plain text."""
    return [0 if count is None else count for count in batch["messages"].value_lengths().to_pylist()]


def spoken(row: Canonical, contents: tuple[str, ...], text: str, rejected: str | None) -> Canonical:
    """`row` with other texts (for plain text `text`, else those of its turns). Raises RowSkipped where a text
    that is needed is empty."""
    if row.roles is None:
        if not text or text.isspace():
            raise RowSkipped("nothing is left of the text")
        return row._replace(text=text)
    kept_turns = [
        (role, content) for role, content in zip(row.roles, contents, strict=True) if _says(role, content)
    ]
    if row.rejected is not None and (not rejected or rejected.isspace()):
        raise RowSkipped("nothing is left of the rejected answer")
    roles, kept = tuple(role for role, _ in kept_turns), tuple(content for _, content in kept_turns)
    label = row.label
    if label is not None and row.contents[-1].strip() == label:
        label = kept[-1].strip()  # the answer is the label
    return still_chosen(
        row._replace(roles=roles, contents=kept, text="\n\n".join(kept), label=label, rejected=rejected)
    )


def still_chosen(row: Canonical) -> Canonical:
    """The row, without choices where its prompt does not list them any more, or its answer is another."""
    if not row.choices or row.answer_index is None:
        return row
    asked = next((text for text in reversed(row.contents[:-1])), "")
    if shows(asked, row.choices) and row.contents[-1] == row.choices[row.answer_index]:
        return row
    return row._replace(choices=None, answer_index=None)


def _says(role: str, content: str) -> bool:
    if content and not content.isspace():
        return True
    if role != OURS[0]:
        raise RowSkipped(EMPTIED.get(role, "nothing is left of a turn"))
    return False


def _replaced(column: pa.Array, texts: Mapping[int, str] | None) -> pa.Array:
    """The column with other texts at these places."""
    if not texts:
        return column
    return pa.array([texts.get(at, text) for at, text in enumerate(column.to_pylist())], pa.string())


def changed_batch(
    batch: pa.RecordBatch,
    made: Mapping[int, Canonical],
    dropped: Mapping[int, str] | None = None,
    sources: Mapping[int, str] | None = None,
) -> BatchChange | None:
    """The batch with other rows at the places of `made`, and other rows of the file at those of `sources`;
    None where nothing changed."""
    if not made and not dropped:
        return None
    changed = np.zeros(batch.num_rows, bool)
    changed[list(made)] = True
    if not made:
        return BatchChange(batch, changed, dict(dropped or {}))
    rows = [made.get(at, row) for at, row in enumerate(canonicals(batch))]
    digests = batch["digest"].to_numpy().copy()
    for at, row in made.items():
        digests[at] = np.frombuffer(digest(row.text), "<u8")[0]
    roles, contents, texts, labels, rejected, choices, answers, parts = zip(*rows, strict=True)
    columns = {
        "row_id": batch["row_id"],
        "line": batch["line"],
        "messages": turn_arrays(roles, contents)[0],
        "text": pa.array(texts, pa.string()),
        "label": pa.array(labels, pa.string()),
        "rejected": pa.array(rejected, pa.string()),
        "digest": pa.array(digests),
        "source": _replaced(batch["source"], sources),
        "choices": pa.array(choices, pa.list_(pa.string())),
        "answer_index": pa.array(answers, pa.int32()),
        "part": pa.array(parts, pa.string()),
    }
    return BatchChange(pa.RecordBatch.from_pydict(columns, schema=SCHEMA), changed, dict(dropped or {}))
