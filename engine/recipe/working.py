"""The rows of a version while a recipe works on them.

Texts lie in Parquet files (the old version's own until a step rewrites them) and pass through memory in
batches; what became of every row is kept in arrays, one entry a row. A row's number is its `row_id` in the
old version; rows that are mixed in are numbered on from there. Every row of the old version ends alive or
dropped by one step with a reason, and both may be checked by counting: nothing but `drop` ends a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.rows.dataset import SCHEMA, batches, open_rows
from engine.worker.job import WorkerJob
from engine.worker.progress import ProgressReporter
from store.contract.home import Home
from store.documents.data.row import Kind
from store.documents.tables.job_order import OrderDataset

BATCH_ROWS = 10_000


@dataclass
class Drop:
    """Rows that one step ended. reasons: one for all, or one for each."""

    step: int
    rows: np.ndarray
    reasons: str | list[str]


@dataclass
class BatchChange:
    """What a step made of a batch. rows: in SCHEMA, the same rows in the same order. changed: bool, one a
    row. dropped: place in the batch -> reason."""

    rows: pa.RecordBatch
    changed: np.ndarray
    dropped: dict[int, str] = field(default_factory=dict)


@dataclass
class Origin:
    """A data set that rows come from: what the worker was told of it, and which of its rows have which number
    here (None: the same numbers)."""

    dataset: OrderDataset
    numbers: np.ndarray | None = None
    row_ids: np.ndarray | None = None


class Working:
    """The rows under way. `folder`: for files that pass. `limit`: only the first rows of the old version."""

    def __init__(
        self,
        job: WorkerJob,
        dataset: OrderDataset,
        mixed: Mapping[str, OrderDataset],
        folder: Path,
        limit: int | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.home: Home = job.home
        self.job = job
        self.folder = folder
        self.mixed = mixed
        self.kind: Kind = dataset["kind"]
        self.format: str = dataset["format"]
        self.columns: dict[str, str] = dataset["columns"]
        self.progress = RecipeProgress(job)
        rows = open_rows(job.home, dataset["fingerprint"])
        self.whole: int = rows.metadata.num_rows
        self.parents = self.whole  # that are looked at
        self.files: list[Path] = [job.home.rows(dataset["fingerprint"])]
        self.origins: list[Origin] = [Origin(dataset)]
        if limit is not None and limit < self.parents:
            self.parents = limit
            self.files = [self._first(rows, limit)]
        self.alive = np.ones(self.parents, bool)
        self.added_by = np.full(self.parents, -1, np.int32)
        self.drops: list[Drop] = []
        self.changes: list[tuple[int, np.ndarray]] = []
        self.notices: list[str] = []
        self.redactors: list[Callable[[str], str]] = []  # what may not stand in reasons either
        self.given = False  # every row says which part it is in
        self._made = 0

    @property
    def limited(self) -> bool:
        """Whether only the first rows of the old version are looked at."""
        return self.parents < self.whole

    @property
    def total(self) -> int:
        """Rows of the old version and rows that were mixed in, alive or not."""
        return len(self.alive)

    @property
    def count(self) -> int:
        """Rows that are alive."""
        return int(np.count_nonzero(self.alive))

    def living(self) -> np.ndarray:
        """The numbers of the rows that are alive, in order: int64."""
        return np.flatnonzero(self.alive)

    def name(self, number: int) -> str:
        """A row as a reason names it: "row 12", or "row 3 of Capitals" where it was mixed in."""
        for origin in self.origins[1:]:
            assert origin.numbers is not None
            assert origin.row_ids is not None
            at = number - int(origin.numbers[0])
            if 0 <= at < len(origin.numbers):
                return f"row {origin.row_ids[at]} of {origin.dataset['name']}"
        return f"row {number}"

    def keep_parts(self, parts: np.ndarray) -> None:
        """Write into every row which part it is in. parts: object, by the number of a row; None: in none."""
        path = self._new_file()
        with pq.ParquetWriter(path, SCHEMA, compression="lz4") as writer:
            for batch in self.scan():
                named = pa.array(parts[batch["row_id"].to_numpy()], pa.string())
                writer.write_batch(batch.set_column(SCHEMA.get_field_index("part"), "part", named))
        self._replace(path)
        self.given = True

    # -- reading --------------------------------------------------------------------------------------

    def scan(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The living rows in order, in batches of SCHEMA or of row_id and `columns`. Raises Cancelled."""
        wanted = None if columns is None else list(dict.fromkeys(["row_id", *columns]))
        seen = 0
        for file in self.files:
            for batch in batches(pq.ParquetFile(file), BATCH_ROWS, wanted):
                seen += batch.num_rows
                self.progress.at(seen / max(1, self.total))
                alive = self.alive[batch["row_id"].to_numpy()]
                if alive.all():
                    yield batch
                elif alive.any():
                    yield batch.filter(pa.array(alive))

    # -- what steps do --------------------------------------------------------------------------------

    def drop(self, step: int, rows: np.ndarray, reasons: str | list[str]) -> None:
        """End living rows, each for its reason."""
        if len(rows):
            self.alive[rows] = False
            self.drops.append(Drop(step, rows, reasons))

    def rewrite(self, step: int, change: Callable[[pa.RecordBatch], BatchChange | None]) -> None:
        """Pass every batch of living rows through `change` (None: as it is), and go on with what it gives."""
        path = self._new_file()
        changed: list[np.ndarray] = []
        dropped: dict[int, str] = {}
        with pq.ParquetWriter(path, SCHEMA, compression="lz4") as writer:
            for batch in self.scan():
                changed_rows = change(batch)
                if changed_rows is None:
                    writer.write_batch(batch)
                    continue
                numbers = batch["row_id"].to_numpy()
                ended = np.zeros(len(numbers), bool)
                ended[list(changed_rows.dropped)] = True
                dropped |= {int(numbers[at]): reason for at, reason in changed_rows.dropped.items()}
                changed.append(numbers[changed_rows.changed & ~ended])
                writer.write_batch(changed_rows.rows)
        touched = np.concatenate([*changed, np.zeros(0, np.int64)])
        if len(touched):
            self.changes.append((step, touched))
            self._replace(path)
        else:
            path.unlink()
        self.drop(step, np.fromiter(dropped, np.int64, len(dropped)), list(dropped.values()))

    def add(self, step: int, dataset: OrderDataset, row_ids: np.ndarray, tables: Iterator[pa.Table]) -> None:
        """Rows of another data set: `tables` hold those with these ids, in this order."""
        numbers = np.arange(self.total, self.total + len(row_ids), dtype=np.int64)
        path, at = self._new_file(), 0
        with pq.ParquetWriter(path, SCHEMA, compression="lz4") as writer:
            for table in tables:
                ids = pa.array(numbers[at : at + table.num_rows])
                writer.write_table(table.set_column(0, "row_id", ids).cast(SCHEMA))
                at += table.num_rows
        self.files.append(path)
        self.origins.append(Origin(dataset, numbers, row_ids))
        self.alive = np.concatenate([self.alive, np.ones(len(numbers), bool)])
        self.added_by = np.concatenate([self.added_by, np.full(len(numbers), step, np.int32)])

    def _first(self, rows: pq.ParquetFile, limit: int) -> Path:
        path, left = self.folder / "first.parquet", limit
        with pq.ParquetWriter(path, SCHEMA, compression="lz4") as writer:
            for batch in batches(rows, BATCH_ROWS):
                writer.write_batch(batch.slice(0, left))
                left -= min(left, batch.num_rows)
                if not left:
                    break
        return path

    def _new_file(self) -> Path:
        self._made += 1
        return self.folder / f"pass-{self._made}.parquet"

    def _replace(self, path: Path) -> None:
        for old in self.files:
            if old.parent == self.folder:
                old.unlink()
        self.files = [path]


class RecipeProgress:
    """How far the recipe is, over phases of stated weights; told once a second, with an estimate."""

    def __init__(self, job: WorkerJob) -> None:
        self._report = ProgressReporter(job, 100, "%")
        self._weights: list[float] = [1.0]
        self._phase, self._share, self._message = 0, 0.0, ""

    def plan(self, weights: list[float]) -> None:
        """The phases to come."""
        self._weights = weights

    def begin(self, phase: int, message: str) -> None:
        """The next phase."""
        self._phase, self._share, self._message = phase, 0.0, message
        self.at(0)

    def at(self, share: float) -> None:
        """`share` of the present phase is done; a second pass of a phase does not go back. Raises Cancelled
        where the user asked to stop."""
        self._share = max(self._share, min(1.0, share))
        done = sum(self._weights[: self._phase]) + self._weights[self._phase] * self._share
        self._report(round(100 * done / sum(self._weights), 1), message=self._message)
