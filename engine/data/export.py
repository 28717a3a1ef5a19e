"""Rows of a data set as a file for other programs: JSONL in four forms, CSV and Parquet.

What is written reads back as the same rows: an import of the file recognises its form. Beside it stand the
row's number, its part and the other columns of its file (`export_columns`). Where a form can't say
what a row holds (several turns in Alpaca, an answer that was rejected in ShareGPT) nothing is written, and
the error says how many rows are so and which form can.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.convert import Canonical
from engine.data.dataset import SCHEMA
from engine.data.export_columns import Columns, cell, typed
from engine.data.recipe.rows import canonicals, still_chosen
from engine.data.tool_turns import TOOLS, openai
from store.choices import without_choices
from store.data_config import ExportFormat
from store.errors import ConfigError

TITLES: dict[ExportFormat, str] = {
    "messages": "JSONL, OpenAI messages",
    "prompt_completion": "JSONL, prompt and completion",
    "alpaca": "JSONL, Alpaca",
    "sharegpt": "JSONL, ShareGPT",
    "csv": "CSV",
    "parquet": "Parquet",
}
SUFFIXES: dict[ExportFormat, str] = {"csv": ".csv", "parquet": ".parquet"}  # the others are .jsonl
SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt"}
PAIRS: tuple[ExportFormat, ...] = ("prompt_completion", "alpaca")
PAIR_ROLES = (("user", "assistant"), ("system", "user", "assistant"))
CHOOSING: tuple[ExportFormat, ...] = (*PAIRS, "csv", "parquet")  # that can say what was chosen from
Form = Literal["text", "preference", "labelled", "choices", "pairs", "chat"]
Document = dict[str, Any]


@dataclass
class Shape:
    """What the rows are like: how many there are, how many are one question with its answer (and perhaps a
    system turn), have a system turn, call functions, have a label, have the label as their answer, have
    choices, and are one question with its choices and the right one."""

    rows: int = 0
    pairs: int = 0
    with_system: int = 0
    with_tools: int = 0
    labelled: int = 0
    answered_by_label: int = 0
    with_choices: int = 0
    choosing: int = 0


def shape(batches: Iterable[pa.RecordBatch], columns: Columns) -> Shape:
    """Looks at every row, and has `columns` see it."""
    found: Counter[str] = Counter()
    for batch in batches:
        columns.see(batch)
        found["rows"] += batch.num_rows
        for row in canonicals(batch):
            roles = row.roles or ()
            found["pairs"] += roles in PAIR_ROLES
            found["with_system"] += roles[:1] == ("system",)
            found["with_tools"] += roles[:1] == (TOOLS,)
            if row.label is not None:
                found["labelled"] += 1
                found["answered_by_label"] += bool(row.contents) and row.contents[-1] == row.label
            if row.choices:
                found["with_choices"] += 1
                found["choosing"] += _chooses(row)
    return Shape(**found)


def _chooses(row: Canonical) -> bool:
    """Whether question, choices and answer stand apart and can be put together again."""
    if row.roles not in PAIR_ROLES or still_chosen(row).choices is None:
        return False
    return not without_choices(row.contents[-2], row.choices or ()).isspace()


def form_of(kind: str, shape: Shape) -> Form:
    """The plainest form that says all of the rows."""
    if kind != "chat":
        return "text" if kind == "text" else "preference"
    if shape.pairs < shape.rows:
        return "chat"
    if shape.choosing == shape.rows:
        return "choices"
    return "labelled" if shape.answered_by_label == shape.rows and not shape.with_system else "pairs"


def check(kind: str, format: ExportFormat, shape: Shape) -> None:
    """Raise ConfigError (field format) where the format can't hold the rows."""
    able = "messages, csv or parquet"
    if not shape.rows:
        raise ConfigError("There is no row to export.", fix="Choose other rows.", field="where")
    if kind != "chat" and format not in ("messages", "csv", "parquet"):
        what = "plain text" if kind == "text" else "preferred and rejected answers"
        raise ConfigError(f"{TITLES[format]} can't hold {what}.", fix=f"Choose {able}.", field="format")
    if format == "sharegpt" and shape.with_tools:
        raise ConfigError(
            f"{TITLES[format]} can't hold calls of functions, and {shape.with_tools:,} of {shape.rows:,}"
            " rows have some.",
            fix=f"Choose {able}.",
            field="format",
        )
    if format in PAIRS and shape.pairs < shape.rows:
        raise ConfigError(
            f"{TITLES[format]} holds one question and one answer a row, and {shape.rows - shape.pairs:,} of"
            f" {shape.rows:,} rows are longer conversations.",
            fix="Choose messages, sharegpt, csv or parquet.",
            field="format",
        )


def losses(kind: str, format: ExportFormat, shape: Shape) -> list[str]:
    """What an import of the file would not read back, in sentences; empty where it reads all."""
    form = form_of(kind, shape)
    told = []
    if shape.with_choices and not (form == "choices" and format in CHOOSING):
        why = "other rows have none" if form != "choices" else "it reads turns alone"
        told.append(
            f"{shape.with_choices:,} rows are multiple choice: an import reads them as questions and answers,"
            f" for {why}."
        )
    if shape.labelled and not (form == "labelled" and format in ("csv", "parquet")):
        told.append(
            f"{shape.labelled:,} rows have a label: it is in the column label, and an import leaves it out."
        )
    return told


def write(
    path: Path,
    kind: str,
    format: ExportFormat,
    shape: Shape,
    batches: Iterable[pa.RecordBatch],
    columns: Columns,
    *,
    one_list: bool = False,
) -> None:
    """Write the rows to the new file `path`, each with its other `columns`. `shape` is that of the same rows,
    and `check`ed. one_list: of the forms in JSON one list in place of a line for each row."""
    form = form_of(kind, shape)
    if format == "parquet":
        _write_parquet(path, form, shape, batches, columns)
    elif format == "csv":
        _write_csv(path, form, shape, batches, columns)
    else:
        document = _DOCUMENTS[format] if kind == "chat" else _of_kind
        encode = json.JSONEncoder(ensure_ascii=False).encode
        begin, between, end = ("[\n", ",\n", "\n]\n") if one_list else ("", "\n", "\n")
        with open(path, "x", encoding="utf-8", newline="\n") as file:
            file.write(begin)
            first = True
            for batch in batches:
                for row, more in zip(canonicals(batch), columns.of(batch), strict=True):
                    file.write(("" if first else between) + encode({**document(row), **more}))
                    first = False
            file.write(end)


# -- JSONL ----------------------------------------------------------------------------------------------


def _messages(row: Canonical, answer: str | None = None) -> list[Document]:
    assert row.roles is not None
    contents = row.contents if answer is None else (*row.contents[:-1], answer)
    return [{"role": role, "content": said} for role, said in zip(row.roles, contents, strict=True)]


def _labelled(document: Document, row: Canonical) -> Document:
    return document if row.label is None else {**document, "label": row.label}


def _chosen_from(row: Canonical) -> Document:
    """What an import tells multiple choice by; the prompt lists the choices as it is."""
    return {} if not row.choices else {"choices": list(row.choices), "answer_index": row.answer_index}


def _openai(row: Canonical) -> Document:
    return _labelled(openai(_messages(row)), row)


def _sharegpt(row: Canonical) -> Document:
    turns = [{"from": SPEAKERS[turn["role"]], "value": turn["content"]} for turn in _messages(row)]
    return _labelled({"conversations": turns}, row)


def _prompt_completion(row: Canonical) -> Document:
    *system, prompt, completion = row.contents
    document: Document = {"system": system[0]} if system else {}
    document |= {"prompt": prompt, "completion": completion, **_chosen_from(row)}
    return _labelled(document, row)


def _alpaca(row: Canonical) -> Document:
    *system, instruction, output = row.contents
    document: Document = {"system": system[0]} if system else {}
    document |= {"instruction": instruction, "input": "", "output": output, **_chosen_from(row)}
    return _labelled(document, row)


def _of_kind(row: Canonical) -> Document:
    """Plain texts and preferences have one form in JSONL."""
    if row.roles is None:
        return {"text": row.text}
    return {"chosen": _messages(row), "rejected": _messages(row, row.rejected or "")}


_DOCUMENTS: dict[ExportFormat, Callable[[Canonical], Document]] = {
    "messages": _openai,
    "sharegpt": _sharegpt,
    "prompt_completion": _prompt_completion,
    "alpaca": _alpaca,
}


# -- tables ---------------------------------------------------------------------------------------------


def _columns(form: Form, shape: Shape) -> list[str]:
    """The columns of a table, in order."""
    pairs = [*(["system"] if shape.with_system else []), "prompt", "completion"]
    columns = {
        "text": ["text"],
        "preference": ["chosen", "rejected"],
        "labelled": ["text", "label"],
        "choices": [*pairs, "choices", "answer_index"],
        "pairs": pairs,
        "chat": ["messages"],
    }[form]
    return [*columns, "label"] if shape.labelled and form != "labelled" else columns


def _cells(form: Form, row: Canonical) -> Document:
    """The values of a row by column; a conversation is a list of messages."""
    match form:
        case "text":
            cells: Document = {"text": row.text}
        case "preference":
            cells = _of_kind(row)
        case "labelled":
            cells = {"text": row.contents[0]}
        case "choices" | "pairs":
            cells = _prompt_completion(row)
        case "chat":
            cells = {"messages": _messages(row)}
    return {**cells, "label": row.label}


def _write_csv(
    path: Path, form: Form, shape: Shape, batches: Iterable[pa.RecordBatch], others: Columns
) -> None:
    columns = [*_columns(form, shape), *(field.name for field in others.fields())]
    with open(path, "x", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        table.writerow(columns)
        for batch in batches:
            table.writerows(_csv_rows(form, columns, batch, others))


def _csv_rows(form: Form, columns: list[str], batch: pa.RecordBatch, others: Columns) -> Iterator[list[str]]:
    for row, more in zip(canonicals(batch), others.of(batch), strict=True):
        cells = {**_cells(form, row), **more}
        yield [_cell(cells.get(column)) for column in columns]


def _cell(value: Any) -> str:
    return "" if value is None else str(cell(value, pa.string()))


def _write_parquet(
    path: Path, form: Form, shape: Shape, batches: Iterable[pa.RecordBatch], others: Columns
) -> None:
    turns = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    types = {**dict.fromkeys(("messages", "chosen", "rejected"), turns)}
    types |= {name: SCHEMA.field(name).type for name in ("choices", "answer_index")}
    # A table that can hold turns as they are need not take them apart: pairs are messages here.
    form = "chat" if form == "pairs" else form
    said = [pa.field(column, types.get(column, pa.string())) for column in _columns(form, shape)]
    schema = pa.schema([*said, *others.fields()])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            cells = [_cells(form, row) for row in canonicals(batch)]
            columns = [pa.array([one[f.name] for one in cells], f.type) for f in said]
            columns += typed(others.of(batch), others.fields())
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
