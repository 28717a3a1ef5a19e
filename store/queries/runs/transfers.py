"""What matrices of transfer found, put together from all finished ones: for each pair the newest cell.

Cells belong together where they were asked for alike (part, rows, seed, length) and the data set is dealt as
it was; others are as good as not measured. Nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from store.config.train_config import Split
from store.config.transfer_config import KIND
from store.contract.states import ALIVE
from store.db.records import records
from store.queries.jobs import placeholders

if TYPE_CHECKING:
    from store.db.database import Queryable

Document = dict[str, Any]
NEWEST = 40  # matrices that are looked through
PACED = 20  # of which the speed is taken
BASE = ""  # run_id of the base model's cells


@dataclass
class Found:
    """cells: by (run_id, dataset_id); distances and weights: by both ends, in either order; sequences:
    chains of runs with their backward transfer; sets: dataset_id -> what was measured of it (rows, of,
    reason)."""

    cells: dict[tuple[str, str], Document] = field(default_factory=dict)
    distances: dict[frozenset[str], Document] = field(default_factory=dict)
    weights: dict[frozenset[str], Document] = field(default_factory=dict)
    sequences: list[Document] = field(default_factory=list)
    runs: dict[str, Document] = field(default_factory=dict)
    sets: dict[str, Document] = field(default_factory=dict)

    def place(
        self, run: Mapping[str, Any], one: Mapping[str, Any], sets: Iterable[Mapping[str, Any]]
    ) -> Document:
        """What the cell of `run` on the data set `one` is: `source`, what the run was trained on, after what
        it went on from, as names of `sets`; `target`; `own`, the run's own data; `earlier`, that of a run
        which it went on from. A gain on either is not transfer."""
        names = {each["fingerprint"]: each["name"] for each in sets}
        trained = (self.runs.get(run["run_id"]) or {}).get("trained") or [run["data_fingerprint"]]
        before = [names.get(fingerprint, "other rows") for fingerprint in reversed(trained[1:])]
        own = run["data_fingerprint"] == one["fingerprint"]
        return {
            "source": ", then ".join([*before, run["dataset_name"]]),
            "target": one["name"],
            "own": own,
            "earlier": not own and one["fingerprint"] in trained,
        }

    def missing(self, runs: Iterable[str], sets: Iterable[str]) -> list[tuple[str, str]]:
        """Pairs of run and data set that nobody measured."""
        named = list(sets)
        return [(run, one) for run in runs for one in named if (run, one) not in self.cells]

    def failed(self) -> list[tuple[str, str]]:
        """Pairs that could not be measured; what was wrong may have been mended since."""
        return [key for key, cell in self.cells.items() if cell["reason"] and key[0] != BASE]


def found(
    db: Queryable, run_ids: Sequence[str], sets: Sequence[Mapping[str, Any]], asked: Mapping[str, Any]
) -> Found:
    """What is known of these runs on these data sets (rows of `dataset`), asked for in this way
    (`TransferConfig.asked`)."""
    answer, wanted = Found(), {one["dataset_id"]: one for one in sets}
    for result in _results(db, run_ids):
        if {name: result["asked"].get(name) for name in asked} != dict(asked):
            continue
        there = {
            one["dataset_id"]: one
            for one in result["datasets"]
            if one["dataset_id"] in wanted and _as_dealt(one, wanted[one["dataset_id"]])
        }
        _add(answer, result, set(run_ids), there)
    return answer


def _results(db: Queryable, run_ids: Sequence[str]) -> list[Document]:
    """Those of finished matrices with one of the runs in them, newest first."""
    sql = (
        "SELECT result FROM job WHERE kind = ? AND status = 'finished'"
        f" AND list_has_any(from_json(config -> 'runs', '[\"VARCHAR\"]'), [{placeholders(run_ids)}])"
        f" ORDER BY created_at DESC, job_id DESC LIMIT {NEWEST}"
    )
    return [row["result"] for row in records(db.query(sql, [KIND, *run_ids]), ["result"])]


def _as_dealt(measured: Document, now: Mapping[str, Any]) -> bool:
    """Whether the data set still has those rows, dealt in that way."""
    split = {name: now.get(name) for name in Split.model_fields}
    then = Split.parse(measured["split"]).model_dump()
    return measured["fingerprint"] == now["fingerprint"] and Split.parse(split).model_dump() == then


def _add(answer: Found, result: Document, runs: set[str], there: dict[str, Document]) -> None:
    for cell in result["cells"]:
        key = cell["run_id"], cell["dataset_id"]
        if key[1] not in there or (key[0] and key[0] not in runs):
            continue
        known = answer.cells.get(key)
        if known is None or (known["reason"] and not cell["reason"]):
            answer.cells[key] = cell
            answer.sets[key[1]] = there[key[1]]
    for run in result["runs"]:
        answer.runs.setdefault(run["run_id"], run)
    for name in ("distances", "weights"):
        kept: dict[frozenset[str], Document] = getattr(answer, name)
        for pair in result[name]:
            kept.setdefault(frozenset((pair["first"], pair["second"])), pair)
    known_chains = [chain["runs"] for chain in answer.sequences]
    for chain in result["sequences"]:
        told = set(chain["datasets"]) <= set(there) and set(chain["runs"]) <= runs
        if told and chain["runs"] not in known_chains:
            answer.sequences.append(chain)


def unfinished(db: Queryable) -> list[Document]:
    """Matrices that wait or are at work, oldest first."""
    alive = sorted(ALIVE)
    sql = (
        f"SELECT * FROM job WHERE kind = ? AND status IN ({placeholders(alive)}) ORDER BY created_at, job_id"
    )
    return records(db.query(sql, [KIND, *alive]), ("config", "error", "result"))


def newest(db: Queryable) -> Document | None:
    """What the newest finished matrix was asked (`TransferConfig`); None where there is none."""
    sql = (
        "SELECT config FROM job WHERE kind = ? AND status = 'finished' ORDER BY created_at DESC, job_id DESC"
        " LIMIT 1"
    )
    rows = records(db.query(sql, [KIND]), ("config",))
    return rows[0]["config"] if rows else None


def last_bad_end(db: Queryable) -> Document | None:
    """The newest matrix, where it failed or was stopped."""
    sql = "SELECT * FROM job WHERE kind = ? ORDER BY created_at DESC, job_id DESC LIMIT 1"
    rows = records(db.query(sql, [KIND]), ("config", "error", "result"))
    return rows[0] if rows and rows[0]["status"] in ("failed", "cancelled", "lost") else None


def seconds_a_cell(db: Queryable, max_rows: int | None) -> tuple[float, int] | None:
    """How long a cell took, of so many cells; None where none was measured. Over matrices with as many rows a
    cell where there are some, else over all."""
    sql = (
        "SELECT (result ->> 'measured')::BIGINT AS cells, (result ->> 'seconds')::DOUBLE AS seconds,"
        " config ->> 'max_rows' AS rows FROM job WHERE kind = ? AND status = 'finished'"
        f" AND (result ->> 'measured')::BIGINT > 0 ORDER BY created_at DESC LIMIT {PACED}"
    )
    rows = records(db.query(sql, [KIND]))
    alike = [row for row in rows if row["rows"] == (None if max_rows is None else str(max_rows))] or rows
    cells = sum(row["cells"] for row in alike)
    return (sum(row["seconds"] for row in alike) / cells, cells) if cells else None
