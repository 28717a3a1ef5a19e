"""Results of all finished transfer matrices, combined: for each pair of run and data set, the newest cell.

Cells are combined if they have the same settings (part, rows, seed, length) and the split of the data set
is unchanged; others count as not measured. No conclusions are drawn here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from store.core.job_kinds import ALIVE
from store.core.schemas import ConfigDocument, Job
from store.data.datasets import get_split_fields
from store.data.schemas import Dataset
from store.db.named_query import named_query
from store.db.records import read_records
from store.jobs.job_queue import make_placeholders
from store.runs.schemas import Run
from store.training.split import Split
from store.transfer.config import KIND
from store.transfer.schemas import (
    DatasetDistance,
    TransferCell,
    TransferDataset,
    TransferResult,
    TransferRun,
    TransferSequence,
    WeightSimilarity,
)

if TYPE_CHECKING:
    from store.db.database import Queryable

NEWEST = 40  # maximum matrices to read
PACED = 20  # maximum matrices for the estimate of speed
BASE = ""  # run_id of the base model's cells


class CellRelation(TypedDict):
    """Relation of a run to a data set. A gain on the run's own or earlier data is not transfer."""

    source: str  # names of the data of the runs it continued from and of its own
    target: str  # name of the data set that it is measured on
    own: bool  # whether the data set is the run's own
    earlier: bool  # whether the data set is that of a run it continued from


@dataclass
class MeasuredTransfer:
    """Combined results.

    cells: by (run_id, dataset_id); distances and weights: by both ends, in either order; sequences: chains
    of runs with their backward transfer; sets: dataset_id -> what was measured of it (rows, of, reason).
    """

    cells: dict[tuple[str, str], TransferCell] = field(default_factory=dict)
    distances: dict[frozenset[str], DatasetDistance] = field(default_factory=dict)
    weights: dict[frozenset[str], WeightSimilarity] = field(default_factory=dict)
    sequences: list[TransferSequence] = field(default_factory=list)
    runs: dict[str, TransferRun] = field(default_factory=dict)
    sets: dict[str, TransferDataset] = field(default_factory=dict)

    def place(self, run: Run, dataset: Dataset, sets: Iterable[Dataset]) -> CellRelation:
        """Return the relation of `run` to the data set, with names taken from `sets`."""
        names = {each.fingerprint: each.name for each in sets}
        measured = self.runs.get(run.run_id)
        trained = (measured["trained"] if measured else []) or [run.data_fingerprint or ""]
        before = [names.get(fingerprint, "other rows") for fingerprint in reversed(trained[1:])]
        own = run.data_fingerprint == dataset.fingerprint
        return {
            "source": ", then ".join([*before, run.dataset_name]),
            "target": dataset.name,
            "own": own,
            "earlier": not own and dataset.fingerprint in trained,
        }

    def missing(self, runs: Iterable[str], sets: Iterable[str]) -> list[tuple[str, str]]:
        """Return pairs of run and data set that haven't been measured."""
        named = list(sets)
        return [(run, dataset) for run in runs for dataset in named if (run, dataset) not in self.cells]

    def failed(self) -> list[tuple[str, str]]:
        """Return pairs that could not be measured; the cause may have been fixed since."""
        return [key for key, cell in self.cells.items() if cell["reason"] and key[0] != BASE]


@named_query
def measured_transfer(
    db: Queryable, run_ids: Sequence[str], sets: Sequence[Dataset], asked: Mapping[str, Any]
) -> MeasuredTransfer:
    """Return the results for these runs and data sets with these settings (`TransferConfig.asked`)."""
    transfer, wanted = MeasuredTransfer(), {dataset.dataset_id: dataset for dataset in sets}
    for result in _list_results(db, run_ids):
        if {name: result["asked"].get(name) for name in asked} != dict(asked):
            continue
        columns = {
            column.dataset_id: column
            for column in result["datasets"]
            if column.dataset_id in wanted and _is_split_unchanged(column, wanted[column.dataset_id])
        }
        _add(transfer, result, set(run_ids), columns)
    return transfer


@dataclass(kw_only=True)
class _ResultRow:
    result: TransferResult


def _list_results(db: Queryable, run_ids: Sequence[str]) -> list[TransferResult]:
    """Return results of finished matrices with any of the runs, newest first."""
    sql = (
        "SELECT result FROM job WHERE kind = ? AND status = 'finished'"
        f" AND list_has_any(from_json(config -> 'runs', '[\"VARCHAR\"]'), [{make_placeholders(run_ids)}])"
        f" ORDER BY created_at DESC, job_id DESC LIMIT {NEWEST}"
    )
    return [row.result for row in read_records(db.query(sql, [KIND, *run_ids]), _ResultRow, ["result"])]


def _is_split_unchanged(measured: TransferDataset, now: Dataset) -> bool:
    """Return whether the data set still has the same rows and the same split."""
    then = Split.parse(measured.split).model_dump()
    return measured.fingerprint == now.fingerprint and Split.parse(get_split_fields(now)).model_dump() == then


def _add(
    transfer: MeasuredTransfer, result: TransferResult, runs: set[str], columns: dict[str, TransferDataset]
) -> None:
    for cell in result["cells"]:
        key = cell["run_id"], cell["dataset_id"]
        if key[1] not in columns or (key[0] and key[0] not in runs):
            continue
        newer = transfer.cells.get(key)
        if newer is None or (newer["reason"] and not cell["reason"]):
            transfer.cells[key] = cell
            transfer.sets[key[1]] = columns[key[1]]
    for run in result["runs"]:
        transfer.runs.setdefault(run["run_id"], run)
    for distance in result["distances"]:
        transfer.distances.setdefault(frozenset((distance["first"], distance["second"])), distance)
    for likeness in result["weights"]:
        transfer.weights.setdefault(frozenset((likeness["first"], likeness["second"])), likeness)
    chains = [chain.runs for chain in transfer.sequences]
    for chain in result["sequences"]:
        covered = set(chain.datasets) <= set(columns) and set(chain.runs) <= runs
        if covered and chain.runs not in chains:
            transfer.sequences.append(chain)


@named_query
def unfinished(db: Queryable) -> list[Job]:
    """Return queued and running matrix jobs, oldest first."""
    alive = sorted(ALIVE)
    sql = (
        f"SELECT * FROM job WHERE kind = ? AND status IN ({make_placeholders(alive)}) ORDER BY"
        " created_at, job_id"
    )
    return read_records(db.query(sql, [KIND, *alive]), Job, ("config", "error", "result"))


@dataclass(kw_only=True)
class _ConfigRow:
    config: ConfigDocument


@named_query
def newest(db: Queryable) -> ConfigDocument | None:
    """Return the config (`TransferConfig`) of the newest finished matrix, or None."""
    sql = (
        "SELECT config FROM job WHERE kind = ? AND status = 'finished' ORDER BY created_at DESC, job_id DESC"
        " LIMIT 1"
    )
    rows = read_records(db.query(sql, [KIND]), _ConfigRow, ("config",))
    return rows[0].config if rows else None


@named_query
def last_bad_end(db: Queryable) -> Job | None:
    """Return the newest matrix job if it failed or was stopped."""
    sql = "SELECT * FROM job WHERE kind = ? ORDER BY created_at DESC, job_id DESC LIMIT 1"
    rows = read_records(db.query(sql, [KIND]), Job, ("config", "error", "result"))
    return rows[0] if rows and rows[0].status in ("failed", "cancelled", "lost") else None


@dataclass(kw_only=True)
class _Pace:
    cells: int
    seconds: float
    rows: str | None


@named_query
def seconds_a_cell(db: Queryable, max_rows: int | None) -> tuple[float, int] | None:
    """Return the mean seconds per cell and the number of cells; None if no cell was measured.

    Uses matrices with the same number of rows per cell if there are any, else all.
    """
    sql = (
        "SELECT (result ->> 'measured')::BIGINT AS cells, (result ->> 'seconds')::DOUBLE AS seconds,"
        " config ->> 'max_rows' AS rows FROM job WHERE kind = ? AND status = 'finished'"
        f" AND (result ->> 'measured')::BIGINT > 0 ORDER BY created_at DESC LIMIT {PACED}"
    )
    rows = read_records(db.query(sql, [KIND]), _Pace)
    alike = [row for row in rows if row.rows == (None if max_rows is None else str(max_rows))] or rows
    cells = sum(row.cells for row in alike)
    return (sum(row.seconds for row in alike) / cells, cells) if cells else None
