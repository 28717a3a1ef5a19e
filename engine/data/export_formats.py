"""Export the rows of a data set for other programs: JSONL in four formats, CSV and Parquet.

An exported file can be imported again with the same rows: the import detects its format. If a format can't
represent a row (several turns in Alpaca, rejected answers or function calls in ShareGPT), nothing is
written, and the error gives the number of such rows and the formats that can.

In addition to what is trained on, an export has the row's number, its part of the split and the unused
columns of its source file. These columns keep their names, so that an id or a date stays with its row; a
name that the format itself uses becomes source.NAME. In tables every column has one type: whole numbers,
numbers or flags if all of its values are, otherwise text, with JSON for values that are not text.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.cleaning.working_rows import drop_stale_choices, read_canonical_rows
from engine.data.conversion.row_conversion import CanonicalRow
from engine.data.split.partition import PARTS
from engine.models.tokenization.tool_turns import TOOLS, build_openai_row
from store.core.errors import ConfigError
from store.core.row_schemas import Kind, Message
from store.core.table_values import escape_cell
from store.data.config import ExportFormat
from store.data.dataset_files import SCHEMA
from store.data.formats import strip_choices

OWN_COLUMNS = ("row_id", "split")
FORM_COLUMNS = (  # columns that the export formats use themselves
    *(
        "messages",
        "conversations",
        "prompt",
        "completion",
        "system",
        "instruction",
        "input",
        "output",
        "text",
    ),
    *("label", "chosen", "rejected", "tools", "choices", "answer_index"),
)
TYPES = {int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


@dataclass
class ExtraColumns:
    """Columns of an export in addition to what is trained on.

    codes: uint8, the part of each row of the version; empty if the split is not exported. used: source
    columns that are already in the rows. `names`: source column -> exported column, collected by `see`.
    """

    codes: np.ndarray
    used: frozenset[str]
    names: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, set[type]] = field(default_factory=dict)

    def see(self, batch: pa.RecordBatch) -> None:
        """Collect the source columns of these rows and the types of their values."""
        for row in map(json.loads, batch["source"].to_pylist()):
            for name, value in row.items():
                if name not in self.used:
                    self.names.setdefault(
                        name, f"source.{name}" if name in (*OWN_COLUMNS, *FORM_COLUMNS) else name
                    )
                    self.kinds.setdefault(name, set()).add(type(value))

    def of(self, batch: pa.RecordBatch) -> Iterator[ExportedRow]:
        """Yield the number, the part and the source columns of each row; missing columns are None."""
        for row_id, source in zip(batch["row_id"].to_pylist(), batch["source"].to_pylist(), strict=True):
            row = json.loads(source)
            part = {"split": PARTS[self.codes[row_id]]} if len(self.codes) else {}
            columns = {exported: row.get(name) for name, exported in self.names.items()}
            yield {"row_id": row_id, **part, **columns}

    def fields(self) -> list[pa.Field]:
        """Return the columns as Arrow fields."""
        own = [pa.field("row_id", pa.int64()), *([pa.field("split", pa.string())] if len(self.codes) else [])]
        return own + [pa.field(exported, self._type(name)) for name, exported in self.names.items()]

    def _type(self, name: str) -> pa.DataType:
        kinds = self.kinds[name] - {type(None)}
        if kinds == {int, float}:
            return pa.float64()
        return TYPES.get(next(iter(kinds)), pa.string()) if len(kinds) == 1 else pa.string()


def list_used_columns(columns: Mapping[str, str]) -> frozenset[str]:
    """Return the source columns that a mapping {role: column} reads."""
    return frozenset(columns.values())


def format_cell(value: object, type: pa.DataType) -> object:
    """Convert a value to a column's type."""
    if value is None or not pa.types.is_string(type) or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def build_arrays(rows: Iterable[ExportedRow], fields: list[pa.Field]) -> list[pa.Array]:
    """Build the columns of a table; a column with integers beyond 64 bits is stored as numbers."""
    listed = list(rows)
    return [pa.array([format_cell(row.get(f.name), f.type) for row in listed], f.type) for f in fields]


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
CHOICE_FORMATS: tuple[ExportFormat, ...] = (*PAIRS, "csv", "parquet")  # formats that can store the choices
Form = Literal["text", "preference", "labelled", "choices", "pairs", "chat"]
ExportedRow = dict[str, object]  # a row as JSON or by column, with extra columns


@dataclass
class RowsSummary:
    """Counts of the rows to export.

    pairs: rows of one question and its answer, with or without a system turn. answered_by_label: rows whose
    answer is their label. choosing: rows of one question with its choices and the right one.
    """

    rows: int = 0
    pairs: int = 0
    with_system: int = 0
    with_tools: int = 0
    labelled: int = 0
    answered_by_label: int = 0
    with_choices: int = 0
    choosing: int = 0


def summarise_rows(batches: Iterable[pa.RecordBatch], columns: ExtraColumns) -> RowsSummary:
    """Count the properties of all rows, and let `columns` see each row."""
    counts: Counter[str] = Counter()
    for batch in batches:
        columns.see(batch)
        counts["rows"] += batch.num_rows
        for row in read_canonical_rows(batch):
            roles = row.roles or ()
            counts["pairs"] += roles in PAIR_ROLES
            counts["with_system"] += roles[:1] == ("system",)
            counts["with_tools"] += roles[:1] == (TOOLS,)
            if row.label is not None:
                counts["labelled"] += 1
                counts["answered_by_label"] += bool(row.contents) and row.contents[-1] == row.label
            if row.choices:
                counts["with_choices"] += 1
                counts["choosing"] += _has_separable_choices(row)
    return RowsSummary(**counts)


def _has_separable_choices(row: CanonicalRow) -> bool:
    """Return whether question, choices and answer can be separated and joined again."""
    if row.roles not in PAIR_ROLES or drop_stale_choices(row).choices is None:
        return False
    return not strip_choices(row.contents[-2], row.choices or ()).isspace()


@dataclass(frozen=True)
class FileLayout:
    """Layout of rows in a file.

    kind: of the data set. one_list: write a JSON format as one list instead of one line per row.
    """

    kind: Kind
    format: ExportFormat
    shape: RowsSummary
    one_list: bool = False


def choose_form(kind: Kind, shape: RowsSummary) -> Form:
    """Return the simplest form that can represent all rows."""
    if kind != "chat":
        return "text" if kind == "text" else "preference"
    if shape.pairs < shape.rows:
        return "chat"
    if shape.choosing == shape.rows:
        return "choices"
    return "labelled" if shape.answered_by_label == shape.rows and not shape.with_system else "pairs"


def check_format(layout: FileLayout) -> None:
    """Raise ConfigError (field format) if the format can't represent the rows."""
    kind, format, shape = layout.kind, layout.format, layout.shape
    able = "messages, csv or parquet"
    if not shape.rows:
        raise ConfigError("No rows to export.", fix="Choose other rows.", field="where")
    if kind != "chat" and format not in ("messages", "csv", "parquet"):
        what = "plain text" if kind == "text" else "preferred and rejected answers"
        raise ConfigError(f"{TITLES[format]} can't represent {what}.", fix=f"Choose {able}.", field="format")
    if format == "sharegpt" and shape.with_tools:
        raise ConfigError(
            f"{TITLES[format]} can't represent function calls, and {shape.with_tools:,} of {shape.rows:,}"
            " rows have some.",
            fix=f"Choose {able}.",
            field="format",
        )
    if format in PAIRS and shape.pairs < shape.rows:
        raise ConfigError(
            f"{TITLES[format]} has one prompt and one answer per row, and {shape.rows - shape.pairs:,} of"
            f" {shape.rows:,} rows are longer conversations.",
            fix="Choose messages, sharegpt, csv or parquet.",
            field="format",
        )


def describe_losses(layout: FileLayout) -> list[str]:
    """Return sentences on what an import of the file would not restore; empty if it restores everything."""
    format, shape = layout.format, layout.shape
    form = choose_form(layout.kind, shape)
    sentences = []
    if shape.with_choices and not (form == "choices" and format in CHOICE_FORMATS):
        why = "other rows have none" if form != "choices" else "it reads turns alone"
        sentences.append(
            f"{shape.with_choices:,} rows are multiple choice: an import reads them as questions and answers,"
            f" for {why}."
        )
    if shape.labelled and not (form == "labelled" and format in ("csv", "parquet")):
        sentences.append(
            f"{shape.labelled:,} rows have a label, kept in the column label, which an import ignores."
        )
    return sentences


def write_rows(
    path: Path, layout: FileLayout, batches: Iterable[pa.RecordBatch], columns: ExtraColumns
) -> None:
    """Write the rows and their extra `columns` to the new file `path`.

    The layout must be built from the summary of the same rows and pass `check_format`.
    """
    format, shape = layout.format, layout.shape
    form = choose_form(layout.kind, shape)
    if format == "parquet":
        _write_parquet(path, form, shape, batches, columns)
    elif format == "csv":
        _write_csv(path, form, shape, batches, columns)
    else:
        document = _DOCUMENTS[format] if layout.kind == "chat" else _build_native
        encode = json.JSONEncoder(ensure_ascii=False).encode
        begin, between, end = ("[\n", ",\n", "\n]\n") if layout.one_list else ("", "\n", "\n")
        with open(path, "x", encoding="utf-8", newline="\n") as file:
            file.write(begin)
            first = True
            for batch in batches:
                for row, more in zip(read_canonical_rows(batch), columns.of(batch), strict=True):
                    file.write(("" if first else between) + encode({**document(row), **more}))
                    first = False
            file.write(end)


# -- JSONL ----------------------------------------------------------------------------------------------


def _build_messages(row: CanonicalRow, answer: str | None = None) -> list[Message]:
    assert row.roles is not None
    contents = row.contents if answer is None else (*row.contents[:-1], answer)
    return [{"role": role, "content": content} for role, content in zip(row.roles, contents, strict=True)]


def _add_label(document: Mapping[str, object], row: CanonicalRow) -> ExportedRow:
    return {**document} if row.label is None else {**document, "label": row.label}


def _build_choice_fields(row: CanonicalRow) -> ExportedRow:
    """Return the fields by which an import detects multiple choice; the prompt already lists the choices."""
    return {} if not row.choices else {"choices": list(row.choices), "answer_index": row.answer_index}


def _build_openai(row: CanonicalRow) -> ExportedRow:
    return _add_label(build_openai_row(_build_messages(row)), row)


def _build_sharegpt(row: CanonicalRow) -> ExportedRow:
    turns = [{"from": SPEAKERS[turn["role"]], "value": turn["content"]} for turn in _build_messages(row)]
    return _add_label({"conversations": turns}, row)


def _build_prompt_completion(row: CanonicalRow) -> ExportedRow:
    *system, prompt, completion = row.contents
    document: ExportedRow = {"system": system[0]} if system else {}
    document |= {"prompt": prompt, "completion": completion, **_build_choice_fields(row)}
    return _add_label(document, row)


def _build_alpaca(row: CanonicalRow) -> ExportedRow:
    *system, instruction, output = row.contents
    document: ExportedRow = {"system": system[0]} if system else {}
    document |= {"instruction": instruction, "input": "", "output": output, **_build_choice_fields(row)}
    return _add_label(document, row)


def _build_native(row: CanonicalRow) -> ExportedRow:
    """Build the only JSONL form of plain texts and preferences."""
    if row.roles is None:
        return {"text": row.text}
    return {"chosen": _build_messages(row), "rejected": _build_messages(row, row.rejected or "")}


_DOCUMENTS: dict[ExportFormat, Callable[[CanonicalRow], ExportedRow]] = {
    "messages": _build_openai,
    "sharegpt": _build_sharegpt,
    "prompt_completion": _build_prompt_completion,
    "alpaca": _build_alpaca,
}


# -- tables ---------------------------------------------------------------------------------------------


def _list_columns(form: Form, shape: RowsSummary) -> list[str]:
    """Return the columns of a table, in order."""
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


def _build_cells(form: Form, row: CanonicalRow) -> ExportedRow:
    """Return the values of a row by column; a conversation is a list of messages."""
    match form:
        case "text":
            cells: ExportedRow = {"text": row.text}
        case "preference":
            cells = _build_native(row)
        case "labelled":
            cells = {"text": row.contents[0]}
        case "choices" | "pairs":
            cells = _build_prompt_completion(row)
        case "chat":
            cells = {"messages": _build_messages(row)}
    return {**cells, "label": row.label}


def _write_csv(
    path: Path, form: Form, shape: RowsSummary, batches: Iterable[pa.RecordBatch], others: ExtraColumns
) -> None:
    columns = [*_list_columns(form, shape), *(field.name for field in others.fields())]
    with open(path, "x", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        table.writerow(map(escape_cell, columns))
        for batch in batches:
            table.writerows(_iterate_csv_rows(form, columns, batch, others))


def _iterate_csv_rows(
    form: Form, columns: list[str], batch: pa.RecordBatch, others: ExtraColumns
) -> Iterator[list[str]]:
    for row, more in zip(read_canonical_rows(batch), others.of(batch), strict=True):
        cells = {**_build_cells(form, row), **more}
        values = (cells.get(column) for column in columns)
        yield ["" if value is None else escape_cell(str(format_cell(value, pa.string()))) for value in values]


def _write_parquet(
    path: Path, form: Form, shape: RowsSummary, batches: Iterable[pa.RecordBatch], others: ExtraColumns
) -> None:
    turns = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    types = {**dict.fromkeys(("messages", "chosen", "rejected"), turns)}
    types |= {name: SCHEMA.field(name).type for name in ("choices", "answer_index")}
    # Parquet can store turns directly, so pairs are written as messages.
    form = "chat" if form == "pairs" else form
    own_fields = [pa.field(column, types.get(column, pa.string())) for column in _list_columns(form, shape)]
    schema = pa.schema([*own_fields, *others.fields()])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            cells = [_build_cells(form, row) for row in read_canonical_rows(batch)]
            columns = [pa.array([values[f.name] for values in cells], f.type) for f in own_fields]
            columns += build_arrays(others.of(batch), others.fields())
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
