"""The rows of a version while a recipe is applied, and conversion between batches and row objects.

Texts are stored in Parquet files (those of the old version until a step rewrites them) and pass through
memory in batches; the state of every row is in arrays with one entry a row. A row's number is its `row_id`
in the old version; rows that are mixed in are numbered from there on. Every row of the old version ends up
alive or dropped by one step with a reason. Only `drop` ends a row, so the counts can be verified.

A changed row is stored as an import would store it: its text, digest and label are recomputed from its
turns. An emptied system turn is removed; a row with an emptied question or answer is dropped with that
reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.conversion.conversation_turns import STORED_ROLES
from engine.data.conversion.dataset_writer import build_turn_arrays
from engine.data.conversion.row_conversion import CanonicalRow
from engine.data.readers.file_rows import RowSkipped
from engine.data.similarity.equality import hash_folded_text
from engine.worker.job import WorkerJob
from engine.worker.progress import RowProgressReporter
from store.core.home import Home
from store.core.row_schemas import Kind
from store.data.dataset_files import SCHEMA, iterate_batches, load_rows, open_rows
from store.data.formats import has_choices
from store.jobs.schemas import OrderDataset

BATCH_ROWS = 10_000


@dataclass
class DroppedRows:
    """Rows dropped by one step. reasons: one reason for all rows, or one for each."""

    step: int
    rows: np.ndarray
    reasons: str | list[str]


@dataclass
class BatchChange:
    """Result of a step on a batch.

    rows: in SCHEMA, the same rows in the same order. changed: bool, one a row. dropped: position in the batch
    -> reason.
    """

    rows: pa.RecordBatch
    changed: np.ndarray
    dropped: dict[int, str] = field(default_factory=dict)


@dataclass
class Origin:
    """A data set that rows come from.

    numbers, row_ids: the numbers of its rows here and their row ids there; None if they are equal.
    """

    dataset: OrderDataset
    numbers: np.ndarray | None = None
    row_ids: np.ndarray | None = None


class WorkingRows:
    """The rows that a recipe is applied to.

    `folder`: for temporary files. `limit`: use only the first rows of the old version.
    """

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
        self.parents = self.whole  # rows of the old version that are used
        self.files: list[Path] = [job.home.rows(dataset["fingerprint"])]
        self.origins: list[Origin] = [Origin(dataset)]
        if limit is not None and limit < self.parents:
            self.parents = limit
            self.files = [self._first(rows, limit)]
        self.alive = np.ones(self.parents, bool)
        self.added_by = np.full(self.parents, -1, np.int32)
        self.drops: list[DroppedRows] = []
        self.changes: list[tuple[int, np.ndarray]] = []
        self.notices: list[str] = []
        self.redactors: list[Callable[[str], str]] = []  # applied to reasons as well
        self.given = False  # whether every row records its part
        self._made = 0

    @property
    def limited(self) -> bool:
        """Whether only the first rows of the old version are used."""
        return bool(self.parents < self.whole)

    @property
    def total(self) -> int:
        """Number of rows of the old version and rows mixed in, alive or dropped."""
        return len(self.alive)

    @property
    def count(self) -> int:
        """Number of living rows."""
        return int(np.count_nonzero(self.alive))

    def living(self) -> np.ndarray:
        """Return the numbers of the living rows, in order: int64."""
        return np.flatnonzero(self.alive)

    def name(self, number: int) -> str:
        """Return the name of a row in a reason: "row 12", or "row 3 of Capitals" if it was mixed in."""
        for origin in self.origins[1:]:
            assert origin.numbers is not None
            assert origin.row_ids is not None
            at = number - int(origin.numbers[0])
            if 0 <= at < len(origin.numbers):
                return f"row {origin.row_ids[at]} of {origin.dataset['name']}"
        return f"row {number}"

    def keep_parts(self, parts: np.ndarray) -> None:
        """Write the part of the split into every row. parts: object array by row number; None for no part."""
        path = self._new_file()
        with pq.ParquetWriter(path, SCHEMA, compression="lz4") as writer:
            for batch in self.scan():
                named = pa.array(parts[batch["row_id"].to_numpy()], pa.string())
                writer.write_batch(batch.set_column(SCHEMA.get_field_index("part"), "part", named))
        self._replace(path)
        self.given = True

    # -- reading --------------------------------------------------------------------------------------

    def scan(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the living rows in order, in batches of SCHEMA or of row_id and `columns`.

        Raises JobCancelled.
        """
        wanted = None if columns is None else list(dict.fromkeys(["row_id", *columns]))
        seen = 0
        for file in self.files:
            for batch in iterate_batches(pq.ParquetFile(file), BATCH_ROWS, wanted):
                seen += batch.num_rows
                self.progress.at(seen / max(1, self.total))
                alive = self.alive[batch["row_id"].to_numpy()]
                if alive.all():
                    yield batch
                elif alive.any():
                    yield batch.filter(pa.array(alive))

    # -- changes by steps -----------------------------------------------------------------------------

    def drop(self, step: int, rows: np.ndarray, reasons: str | list[str]) -> None:
        """Drop living rows with their reasons."""
        if len(rows):
            self.alive[rows] = False
            self.drops.append(DroppedRows(step, rows, reasons))

    def rewrite(self, step: int, change: Callable[[pa.RecordBatch], BatchChange | None]) -> None:
        """Replace every batch of living rows by the result of `change` (None: batch unchanged)."""
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

    def add(self, step: int, dataset: OrderDataset, row_ids: np.ndarray) -> None:
        """Add the rows `row_ids` of another data set, in this order."""
        numbers = np.arange(self.total, self.total + len(row_ids), dtype=np.int64)
        path = self._new_file()
        with pq.ParquetWriter(path, SCHEMA, compression="lz4") as writer:
            for start in range(0, len(row_ids), BATCH_ROWS):
                self.progress.at(start / len(row_ids))
                piece = slice(start, start + BATCH_ROWS)
                rows = load_rows(self.home, dataset["fingerprint"], SCHEMA.names, row_ids[piece])
                table = rows.select(SCHEMA.names).set_column(0, "row_id", pa.array(numbers[piece]))
                writer.write_table(table.cast(SCHEMA))
        self.files.append(path)
        self.origins.append(Origin(dataset, numbers, row_ids))
        self.alive = np.concatenate([self.alive, np.ones(len(numbers), bool)])
        self.added_by = np.concatenate([self.added_by, np.full(len(numbers), step, np.int32)])

    def _first(self, rows: pq.ParquetFile, limit: int) -> Path:
        path, left = self.folder / "first.parquet", limit
        with pq.ParquetWriter(path, SCHEMA, compression="lz4") as writer:
            for batch in iterate_batches(rows, BATCH_ROWS):
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
    """Progress of a recipe over phases with given weights; reported once a second, with an estimate."""

    def __init__(self, job: WorkerJob) -> None:
        self._report = RowProgressReporter(job, 100, "%")
        self._weights: list[float] = [1.0]
        self._phase, self._share, self._message = 0, 0.0, ""

    def plan(self, weights: list[float]) -> None:
        """Set the weights of the phases."""
        self._weights = weights

    def begin(self, phase: int, message: str) -> None:
        """Start a phase."""
        self._phase, self._share, self._message = phase, 0.0, message
        self.at(0)

    def at(self, share: float) -> None:
        """Report that `share` of the current phase is done; a second pass over the rows doesn't decrease it.

        Raises JobCancelled if the user requested cancellation.
        """
        self._share = max(self._share, min(1.0, share))
        done = sum(self._weights[: self._phase]) + self._weights[self._phase] * self._share
        self._report(round(100 * done / sum(self._weights), 1), message=self._message)


EMPTY_TURN_REASONS = {"user": "nothing is left of a question", "assistant": "nothing is left of an answer"}


def read_canonical_rows(batch: pa.RecordBatch) -> Iterator[CanonicalRow]:
    """Yield the stored rows of a batch; fields of columns that it lacks, such as choices, are None."""
    turn_list = batch["messages"].flatten()
    roles, contents = turn_list.field("role").to_pylist(), turn_list.field("content").to_pylist()
    lengths = count_turns(batch)
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
        yield CanonicalRow(turns, tuple(contents[start:end]), text, label, rejected, options, answer, part)


def count_turns(batch: pa.RecordBatch) -> list[int]:
    """Return the number of turns of each row, 0 for plain text."""
    return [0 if count is None else count for count in batch["messages"].value_lengths().to_pylist()]


def replace_texts(
    row: CanonicalRow, contents: tuple[str, ...], text: str, rejected: str | None
) -> CanonicalRow:
    """Return `row` with other texts (`text` for plain text, otherwise `contents` of its turns).

    Raises RowSkipped if a required text is empty.
    """
    if row.roles is None:
        if not text or text.isspace():
            raise RowSkipped("nothing is left of the text")
        return row._replace(text=text)
    kept_turns = [
        (role, content)
        for role, content in zip(row.roles, contents, strict=True)
        if _has_content(role, content)
    ]
    if row.rejected is not None and (not rejected or rejected.isspace()):
        raise RowSkipped("nothing is left of the rejected answer")
    roles, kept = tuple(role for role, _ in kept_turns), tuple(content for _, content in kept_turns)
    label = row.label
    if label is not None and row.contents[-1].strip() == label:
        label = kept[-1].strip()  # the answer is the label
    return drop_stale_choices(
        row._replace(roles=roles, contents=kept, text="\n\n".join(kept), label=label, rejected=rejected)
    )


def drop_stale_choices(row: CanonicalRow) -> CanonicalRow:
    """Return the row without its choices if its prompt no longer lists them or its answer has changed."""
    if not row.choices or row.answer_index is None:
        return row
    asked = next((text for text in reversed(row.contents[:-1])), "")
    if has_choices(asked, row.choices) and row.contents[-1] == row.choices[row.answer_index]:
        return row
    return row._replace(choices=None, answer_index=None)


def _has_content(role: str, content: str) -> bool:
    if content and not content.isspace():
        return True
    if role != STORED_ROLES[0]:
        raise RowSkipped(EMPTY_TURN_REASONS.get(role, "nothing is left of a turn"))
    return False


def build_batch_change(
    batch: pa.RecordBatch,
    made: Mapping[int, CanonicalRow],
    dropped: Mapping[int, str] | None = None,
    sources: Mapping[int, str] | None = None,
) -> BatchChange | None:
    """Replace the rows of a batch at the positions in `made`, and its source rows at those in `sources`.

    Returns None if nothing changed.
    """
    if not made and not dropped:
        return None
    changed = np.zeros(batch.num_rows, bool)
    changed[list(made)] = True
    if not made:
        return BatchChange(batch, changed, dict(dropped or {}))
    rows = [made.get(at, row) for at, row in enumerate(read_canonical_rows(batch))]
    digests = batch["digest"].to_numpy().copy()
    for at, row in made.items():
        digests[at] = np.frombuffer(hash_folded_text(row.text), "<u8")[0]
    roles, contents, texts, labels, rejected, choices, answers, parts = zip(*rows, strict=True)
    source = batch["source"]
    if sources:
        source = pa.array([sources.get(at, old) for at, old in enumerate(source.to_pylist())], pa.string())
    columns = {
        "row_id": batch["row_id"],
        "line": batch["line"],
        "messages": build_turn_arrays(roles, contents)[0],
        "text": pa.array(texts, pa.string()),
        "label": pa.array(labels, pa.string()),
        "rejected": pa.array(rejected, pa.string()),
        "digest": pa.array(digests),
        "source": source,
        "choices": pa.array(choices, pa.list_(pa.string())),
        "answer_index": pa.array(answers, pa.int32()),
        "part": pa.array(parts, pa.string()),
    }
    return BatchChange(pa.RecordBatch.from_pydict(columns, schema=SCHEMA), changed, dict(dropped or {}))
