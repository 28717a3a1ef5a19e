"""Rows by the million for the benches of the screens, with the sidecars of texts and duplicates.

Questions and answers are words drawn by seed, in the documented columns, as an import and the measuring of
signals leave them, recorded in the store.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.conversion.dataset_writer import COMPRESSION, COMPRESSION_LEVELS
from engine.data.measurement_job import compute_column_figures
from store.core.home import Home
from store.core.row_schemas import ProfileResult
from store.data import datasets
from store.data.schemas import NewDataset
from store.data.signals import GROUPS
from store.db.database import Database, utc_now
from store.training.split import Split

FINGERPRINT = "b" * 32
BLOCK = 20_000  # rows per row group, as written by an import
LANGUAGES = ["en", "de", "fr", "es", "it"]


def make(home: Home, count: int, mapped: bool = False) -> None:
    """Create a data set of `count` rows with its sidecar files (with map coordinates if `mapped`), and record
    it in the store.
    """
    rng = np.random.default_rng(0)
    words = np.array(
        ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), n)) for n in rng.integers(2, 11, 3000)]
    )
    home.rows(FINGERPRINT).parent.mkdir(parents=True)
    lengths = np.empty(count, np.int32)
    writer: pq.ParquetWriter | None = None
    for start in range(0, count, BLOCK):
        table = _block(rng, words, start, min(BLOCK, count - start))
        writer = writer or pq.ParquetWriter(
            home.rows(FINGERPRINT),
            table.schema,
            compression=COMPRESSION,
            compression_level=COMPRESSION_LEVELS,
        )
        lengths[start : start + table.num_rows] = [len(text) for text in table["text"].to_pylist()]
        writer.write_table(table)
    assert writer is not None
    writer.close()
    database = Database(home.database, [home.datasets])
    with database.transaction() as tx:
        datasets.insert_dataset(tx, _dataset(count))
        sidecars = {"text": _text(rng, lengths), "duplicates": _duplicates(rng, count)}
        if mapped:
            sidecars["map"] = _map(rng, count)
        for group, columns in sidecars.items():
            path = home.signals(FINGERPRINT, group)
            path.parent.mkdir(exist_ok=True)
            table = pa.table({"row_id": np.arange(count), **columns})
            pq.write_table(table, path)
            measured: ProfileResult = {
                "options": {},
                "row_count": count,
                "reused_count": 0,
                "seconds": 0.0,
                "figures": {**compute_column_figures(table, GROUPS[group].signals)},
            }
            datasets.record_signals(tx, FINGERPRINT, group, measured, utc_now())
    database.close()


def _block(rng: np.random.Generator, words: np.ndarray, start: int, count: int) -> pa.Table:
    """Make rows of about 40 words, as imported from prompts and responses."""
    sizes = np.clip(rng.lognormal(3.0, 0.6, (count, 2)).astype(int), 2, 300)
    asked = [" ".join(words[rng.integers(0, len(words), n)]) for n in sizes[:, 0]]
    given = [" ".join(words[rng.integers(0, len(words), n)]) for n in sizes[:, 1]]
    flat = [text for pair in zip(asked, given, strict=True) for text in pair]
    struct = pa.StructArray.from_arrays(
        [pa.array(["user", "assistant"] * count), pa.array(flat)], ["role", "content"]
    )
    return pa.table(
        {
            "row_id": pa.array(range(start, start + count), pa.int64()),
            "line": pa.array(range(start + 1, start + count + 1), pa.int64()),
            "messages": pa.ListArray.from_arrays(pa.array(range(0, 2 * count + 1, 2), pa.int32()), struct),
            "text": [f"{a}\n\n{b}" for a, b in zip(asked, given, strict=True)],
            "label": pa.array([None] * count, pa.string()),
            "rejected": pa.array([None] * count, pa.string()),
            "digest": pa.array(rng.integers(0, 2**63, count), pa.uint64()),
            "source": [
                json.dumps(
                    {"prompt": a, "completion": b, "topic": f"topic {len(a) % 7}", "rating": len(b) % 9}
                )
                for a, b in zip(asked, given, strict=True)
            ],
        }
    )


def _text(rng: np.random.Generator, lengths: np.ndarray) -> dict[str, pa.Array]:
    count = len(lengths)
    columns: dict[str, pa.Array] = {}
    for signal in GROUPS["text"].signals:
        if signal.type == "flag":
            columns[signal.column] = pa.array(rng.random(count) < 0.03)
        elif signal.type == "category":
            columns[signal.column] = pa.array(rng.choice(LANGUAGES, count, p=[0.9, 0.04, 0.03, 0.02, 0.01]))
        elif signal.unit in ("characters", "words"):
            columns[signal.column] = pa.array(lengths)
        else:
            columns[signal.column] = pa.array(rng.random(count).astype("float32"))
    return columns


def _duplicates(rng: np.random.Generator, count: int) -> dict[str, pa.Array]:
    groups = rng.integers(0, count, count)
    columns: dict[str, pa.Array] = {}
    for signal in GROUPS["duplicates"].signals:
        if signal.type == "group":
            columns[signal.column] = pa.array(groups, mask=rng.random(count) > 0.1)
        elif signal.type == "flag":
            columns[signal.column] = pa.array(rng.random(count) < 0.02)
        else:
            columns[signal.column] = pa.array(rng.random(count).astype("float32"))
    return columns


def _map(rng: np.random.Generator, count: int) -> dict[str, pa.Array]:
    """Draw coordinates in twenty clusters, one per topic."""
    topics = rng.integers(0, 20, count)
    places = rng.normal(0, 8, (20, 2))[topics] + rng.normal(0, 1, (count, 2))
    return {
        "x": pa.array(places[:, 0].astype("float32")),
        "y": pa.array(places[:, 1].astype("float32")),
        "cluster": pa.array([f"topic {topic}" for topic in topics]),
        "template": pa.array([""] * count),
    }


def _dataset(count: int) -> NewDataset:
    return NewDataset(
        dataset_id="data-bench",
        name="Bench",
        kind="chat",
        format="prompt_completion",
        columns={"prompt": "prompt", "completion": "completion"},
        source={"path": "bench"},
        fingerprint=FINGERPRINT,
        row_count=count,
        skipped_count=0,
        duplicate_count=0,
        source_bytes=0,
        stats={
            "label_count": 0,
            "labels": {},
            "turns": {"min": 2, "median": 2, "p95": 2, "max": 2},
            "skipped_reasons": {},
            "notices": [],
            "characters": {"min": 2, "median": 200, "p95": 600, "max": 4_000},
            "encoding": "utf-8",
            "reader": "JSON Lines",
        },
        **Split(split_seed=0, validation_size=0.1, test_size=0.1).fields(),
        created_at=utc_now(),
        created_by=None,
        parent_id=None,
        recipe=None,
        fates=None,
    )
