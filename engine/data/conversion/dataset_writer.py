"""Streaming writer of the two Parquet files of a data set, with bounded memory and row counts."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.data.conversion.row_conversion import CanonicalRow
from engine.data.graphemes import measure_lengths
from engine.data.readers.file_rows import SkippedRow
from engine.data.similarity.equality import (
    compute_exact_keys,
    compute_folded_keys,
    hash_folded_text,
    join_keys,
)
from store.core.row_schemas import RowSizes, SizeDistribution
from store.data.dataset_files import LATER, SCHEMA, SKIPPED_SCHEMA, ContentHash

# Filters read text and source: lz4 makes that a third to a half faster, for a fifth more disk space each.
COMPRESSION = {
    **dict.fromkeys(("row_id", "line", "label", "rejected", "digest", "answer_index", "part"), "zstd"),
    "choices.list.element": "zstd",
    **dict.fromkeys(("messages.list.element.role", "messages.list.element.content"), "zstd"),
    **dict.fromkeys(("text", "source"), "lz4"),
}
COMPRESSION_LEVELS = {name: 1 for name, codec in COMPRESSION.items() if codec == "zstd"}
FLUSH_ROWS = 20_000
FLUSH_BYTES = 64 * 1024 * 1024  # buffered text


class DatasetWriter:
    """Writer of rows.parquet and skipped.parquet in a new folder; the files are complete after `close()`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.row_count = 0
        self.skipped_count = 0
        self.first_skipped: dict[str, int] = {}  # reason -> line
        self.reasons: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.parts: Counter[str] = Counter()
        self.fingerprint = ContentHash()
        self._characters: list[np.ndarray] = []
        self._turns: list[np.ndarray] = []
        self._exact: list[np.ndarray] = []
        self._folded: list[np.ndarray] = []
        self._rows = pq.ParquetWriter(
            folder / "rows.parquet", SCHEMA, compression=COMPRESSION, compression_level=COMPRESSION_LEVELS
        )
        self._skipped = pq.ParquetWriter(folder / "skipped.parquet", SKIPPED_SCHEMA, compression="zstd")
        self._waiting_skips: list[tuple[int, str, str]] = []
        self._clear()

    def _clear(self) -> None:
        self._waiting: list[tuple[int, CanonicalRow, bytes, bytes]] = []
        self._size = 0

    def add(self, line: int, row: CanonicalRow, source: bytes) -> None:
        """Add a row; `source` is its JSON. Raises UnicodeEncodeError for text that is not valid Unicode."""
        if row.rejected:
            row.rejected.encode("utf-8")
        self._waiting.append((line, row, source, hash_folded_text(row.text)))
        self._size += len(source) + 2 * len(row.text)
        if len(self._waiting) >= FLUSH_ROWS or self._size >= FLUSH_BYTES:
            self._flush()

    def skip(self, line: int, skipped: SkippedRow) -> None:
        """Add a skipped row."""
        reason, excerpt = skipped
        self.skipped_count += 1
        self.reasons[reason] += 1
        self.first_skipped.setdefault(reason, line)
        self._waiting_skips.append((line, reason, excerpt.encode("utf-8", "replace").decode("utf-8")))
        if len(self._waiting_skips) >= FLUSH_ROWS:
            self._flush_skipped()

    def _flush(self) -> None:
        if not self._waiting:
            return
        lines, rows, sources, digests = zip(*self._waiting, strict=True)
        roles, contents, texts, labels, rejected, choices, answers, parts = zip(*rows, strict=True)
        numbers = np.frombuffer(b"".join(digests), dtype="<u8")
        messages, flat = build_turn_arrays(roles, contents)
        columns = {
            "row_id": pa.array(np.arange(self.row_count, self.row_count + len(rows), dtype=np.int64)),
            "line": pa.array(lines, pa.int64()),
            "messages": messages,
            "text": pa.array(texts, pa.string()),
            "label": pa.array(labels, pa.string()),
            "rejected": pa.array(rejected, pa.string()),
            "digest": pa.array(numbers),
            "source": pa.array(sources, pa.string()),
            "choices": pa.array(choices, pa.list_(pa.string())),
            "answer_index": pa.array(answers, pa.int32()),
            "part": pa.array(parts, pa.string()),
        }
        self._write(columns, flat, measure_lengths(texts))
        self.labels.update(label for label in labels if label is not None)
        self.parts.update(part for part in parts if part is not None)
        self._clear()

    def add_table(self, table: pa.Table) -> None:
        """Add rows of SCHEMA, including their digests; they are renumbered."""
        self._flush()
        table = table.combine_chunks()
        columns = {name: table[name].combine_chunks() for name in SCHEMA.names}
        columns["row_id"] = pa.array(
            np.arange(self.row_count, self.row_count + table.num_rows, dtype=np.int64)
        )
        flat = {"turns": pc.fill_null(pc.list_value_length(columns["messages"]), 0).cast(pa.int32())}
        turns = columns["messages"].flatten()
        flat |= {"roles": turns.field("role"), "contents": turns.field("content")}
        self._write(columns, flat, measure_lengths(columns["text"].to_pylist()))
        counted = columns["label"].drop_null().value_counts().to_pylist()
        self.labels.update({label["values"]: label["counts"] for label in counted})
        parts = columns["part"].drop_null().value_counts().to_pylist()
        self.parts.update({part["values"]: part["counts"] for part in parts})

    def _write(self, columns: dict[str, pa.Array], flat: dict[str, pa.Array], characters: np.ndarray) -> None:
        table = pa.table(columns, schema=SCHEMA)
        self._rows.write_table(table)
        for name, array in {**columns, **flat}.items():
            if name != "messages" and name not in LATER:
                self.fingerprint.add(name, array)
        self._fingerprint_later(columns)
        self._exact.append(compute_exact_keys(table))
        self._folded.append(compute_folded_keys(table))
        self._characters.append(characters)
        self._turns.append(flat["turns"].to_numpy())
        self.row_count += len(characters)

    def _fingerprint_later(self, columns: dict[str, pa.Array]) -> None:
        """Add choices and parts to the fingerprint, with the ids of the rows that have them.

        If no row has any, the fingerprint equals the one from before these columns existed.
        """
        for name, values in (("choices", columns["choices"]), ("part", columns["part"])):
            given = values.is_valid()
            if not pc.any(given).as_py():
                continue
            values = values.filter(given)
            self.fingerprint.add(f"{name}.row_ids", columns["row_id"].filter(given))
            if name == "part":
                self.fingerprint.add(name, values)
            else:
                self.fingerprint.add("choices.counts", values.value_lengths())
                self.fingerprint.add(name, values.flatten())
                self.fingerprint.add("answer_index", columns["answer_index"].filter(given))

    def _flush_skipped(self) -> None:
        if not self._waiting_skips:
            return
        lines, reasons, excerpts = zip(*self._waiting_skips, strict=True)
        columns = {
            "line": pa.array(lines, pa.int64()),
            "reason": pa.array(reasons, pa.string()),
            "excerpt": pa.array(excerpts, pa.string()),
        }
        self._skipped.write_table(pa.table(columns, schema=SKIPPED_SCHEMA))
        for name, array in columns.items():
            self.fingerprint.add(f"skipped.{name}", array)
        self._waiting_skips = []

    def close(self) -> str:
        """Write the buffered rows and return the fingerprint."""
        self._flush()
        self._flush_skipped()
        self._rows.close()
        self._skipped.close()
        return self.fingerprint.hex()

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """After an error, close the files as they are; the caller removes the folder."""
        if kind:
            for file in (self._rows, self._skipped):
                with contextlib.suppress(OSError, pa.ArrowException):  # closing writes: the disk may be full
                    file.close()

    def duplicate_count(self) -> int:
        """Return the number of rows that are exactly equal to an earlier row."""
        return self._repeated(self._exact)

    def sizes(self) -> RowSizes:
        """Return the distributions of `characters` and `turns` over the rows, and the `duplicates`.

        turns: 0 for plain text. duplicates: number of rows equal to an earlier row, exactly and folded
        (`engine.data.similarity.equality`).
        """
        return {
            "characters": _summarise_sizes(self._characters),
            "turns": _summarise_sizes(self._turns),
            "duplicates": {
                "exact": self._repeated(self._exact),
                "folded": self._repeated(self._folded),
            },
        }

    def _repeated(self, keys: list[np.ndarray]) -> int:
        return self.row_count - len(np.unique(join_keys(keys)))


def build_turn_arrays(roles: Any, contents: Any) -> tuple[pa.Array, dict[str, pa.Array]]:
    """Build the column of turns and its flat parts for the fingerprint; much faster than from dicts."""
    lengths = np.fromiter(map(len, contents), np.int32, len(contents))
    missing = np.fromiter((turn_roles is None for turn_roles in roles), bool, len(roles))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat_roles = pa.array([role for some in roles if some for role in some], pa.string())
    flat_contents = pa.array([content for some in contents for content in some], pa.string())
    struct = pa.StructArray.from_arrays([flat_roles, flat_contents], ["role", "content"])
    column = pa.ListArray.from_arrays(pa.array(offsets), struct, mask=pa.array(missing))
    flat = {"turns": pa.array(lengths), "roles": flat_roles, "contents": flat_contents}
    return column, flat


def _summarise_sizes(parts: list[np.ndarray]) -> SizeDistribution:
    values = np.concatenate(parts)
    middle, high = np.percentile(values, [50, 95])
    return {"min": int(values.min()), "median": float(middle), "p95": float(high), "max": int(values.max())}
