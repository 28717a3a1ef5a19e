"""Runs: what was trained, on what, and what came of it. A run shares its id with its job.

Lists come from the view `run_overview`, which joins run, job and the summaries of their metrics, so no
list of runs ever scans points.

Which runs repeat one another: the same settings on the same rows, with another seed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from store.config.run_speed import may_stop, speed_settings
from store.config.train_config import TrainConfig
from store.contract.errors import NotFoundError, StateError
from store.db.records import records, scalar, to_json
from store.queries.jobs import placeholders, utc

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction


RUNS = ("train", "variant")  # kinds of job that are runs
JSON_COLUMNS = ("config", "facts", "verdict", "error")
MEASURED = (
    *("device_name", "counted_memory_gib", "process_memory_gib", "estimated_memory_gib", "peak_memory_gib"),
    *("estimated_memory_low_gib", "estimated_memory_high_gib", "counted_seconds", "estimated_seconds"),
    *("estimated_low_seconds", "estimated_high_seconds", "run_seconds", "energy_wh", "course_seconds"),
)
MOST_LISTED = 10  # ids in the refusal of a name that several runs have
SEARCHED = ("name", "notes", "dataset_name", "model", "method", "run_id")


def list_runs(
    db: Queryable, *, search: str = "", statuses: Collection[str] = (), limit: int = 50, offset: int = 0
) -> list[dict[str, Any]]:
    """Rows of run_overview, newest first; `search` is looked for in names, notes, data set and model."""
    where, params = _where(search, statuses)
    sql = f"SELECT * FROM run_overview {where} ORDER BY created_at DESC, run_id DESC LIMIT ? OFFSET ?"
    return records(db.query(sql, [*params, limit, offset]), JSON_COLUMNS)


def count_runs(db: Queryable, *, search: str = "", statuses: Collection[str] = ()) -> int:
    """How many runs `list_runs` would give without a limit."""
    where, params = _where(search, statuses)
    return int(scalar(db.query(f"SELECT count(*) FROM run_overview {where}", params)))


def status_counts(db: Queryable) -> dict[str, int]:
    """status -> number of runs, for the states that some run is in."""
    table = db.query("SELECT status, count(*) AS n FROM run_overview GROUP BY status")
    return dict(zip(table["status"].to_pylist(), table["n"].to_pylist(), strict=True))


def get_run(db: Queryable, run: str) -> dict[str, Any]:
    """The run with this id, or the newest with this name. Raises NotFoundError."""
    sql = (
        "SELECT * FROM run_overview WHERE run_id = ? OR name = ?"
        " ORDER BY run_id = ? DESC, created_at DESC, run_id DESC LIMIT 1"
    )
    rows = records(db.query(sql, [run, run, run]), JSON_COLUMNS)
    if not rows:
        raise NotFoundError(f"There is no run {run!r}.", fix="List them with: tunebench runs")
    return rows[0]


def one_run(db: Queryable, run: str) -> dict[str, Any]:
    """The run with this id, or the only one with this name: for what changes it. Raises NotFoundError, and
    StateError that lists the ids where several runs have the name."""
    chosen = get_run(db, run)
    sql = "SELECT run_id FROM run_overview WHERE name = ? ORDER BY created_at DESC, run_id DESC"
    ids = [row["run_id"] for row in db.query(sql, [run]).to_pylist()]
    if chosen["run_id"] != run and len(ids) > 1:
        newest = ", ".join(ids[:MOST_LISTED]) + (", …" if len(ids) > MOST_LISTED else "")
        raise StateError(
            f"{len(ids):,} runs are named {run!r}, newest first: {newest}.", fix="Name one of them by its id."
        )
    return chosen


def get_runs(db: Queryable, run_ids: Collection[str]) -> list[dict[str, Any]]:
    """The runs with these ids, in the order asked for. Raises NotFoundError that names the first missing."""
    sql = f"SELECT * FROM run_overview WHERE run_id IN ({placeholders(run_ids)})"
    found = {row["run_id"]: row for row in records(db.query(sql, list(run_ids)), JSON_COLUMNS)}
    for run_id in run_ids:
        if run_id not in found:
            raise NotFoundError(f"There is no run {run_id}.", fix="It may have been deleted.")
    return [found[run_id] for run_id in run_ids]


def measured(db: Queryable, *, limit: int = 300) -> list[dict[str, Any]]:
    """What finished runs were predicted to need and what they needed, newest first.

    {run_id, name, number, method, task, model, data_fingerprint, train_rows, gain (of the verdict, or
    None), stopped (reason), course (share of the planned steps that it took), settings (that change its
    speed), stoppable} and the facts of MEASURED, each None where a run has none."""
    sql = (
        "SELECT run_id, name, number, method, coalesce(config ->> 'task', 'sft') AS task, model,"
        " data_fingerprint, config, facts, verdict FROM run_overview"
        " WHERE status = 'finished' AND facts ->> 'peak_memory_gib' IS NOT NULL"
        " ORDER BY created_at DESC, run_id DESC LIMIT ?"
    )
    found = []
    for run in records(db.query(sql, [limit]), ("config", "facts", "verdict")):
        config, facts, verdict = run.pop("config"), run.pop("facts"), run.pop("verdict") or {}
        run |= {name: facts.get(name) for name in MEASURED}
        run["train_rows"] = (facts.get("rows") or {}).get("train")
        stopped, steps = facts.get("stopped") or {}, facts.get("estimated_steps")
        run["stopped"] = stopped.get("reason")
        run["course"] = min(1.0, stopped["step"] / steps) if steps and stopped.get("step") else None
        run |= {"settings": speed_settings(config), "stoppable": may_stop(config)}
        found.append(run | {"gain": verdict.get("gain")})
    return found


def predictions(db: Queryable, run_id: str) -> list[dict[str, Any]]:
    """Held-out prompts answered by base and tuned model, in the order in which the run wrote them."""
    sql = "SELECT * FROM prediction WHERE run_id = ? ORDER BY rowid"
    return db.query(sql, [run_id]).to_pylist()


def alerts(db: Queryable, job_id: str) -> list[dict[str, Any]]:
    """What a job wants its user to know: level, message, raised_at and, of a verdict, kind and step; oldest
    first."""
    return db.query("SELECT * FROM alert WHERE job_id = ? ORDER BY raised_at", [job_id]).to_pylist()


def _where(search: str, statuses: Collection[str]) -> tuple[str, list[Any]]:
    conditions, params = [], []
    if search:
        hits = " OR ".join(f"contains(lower({column}), lower(?))" for column in SEARCHED)
        conditions.append(f"({hits})")
        params += [search] * len(SEARCHED)
    if statuses:
        conditions.append(f"status IN ({placeholders(statuses)})")
        params += list(statuses)
    return ("WHERE " + " AND ".join(conditions) if conditions else ""), params


# -- writes -----------------------------------------------------------------------------------------


def insert(
    tx: Transaction,
    *,
    run_id: str,
    config: TrainConfig,
    dataset_id: str,
    dataset_name: str,
    fingerprint: str | None,
    at: float,
) -> None:
    """A new run of the job with the same id; its number, which picks its colour, is the next free one."""
    tx.execute(
        "INSERT INTO run (run_id, number, name, notes, dataset_id, dataset_name, data_fingerprint, model,"
        " method, seed, config, facts, created_at)"
        " VALUES (?, nextval('run_number'), ?, ?, ?, ?, ?, ?, ?, ?, ?, '{}', ?)",
        [
            *(run_id, config.name, config.notes, dataset_id, dataset_name, fingerprint),
            *(config.model, config.method, config.seed, to_json(config.model_dump()), utc(at)),
        ],
    )


def update(tx: Transaction, run_id: str, **columns: Any) -> None:
    """Set columns of one run; documents are encoded here."""
    for name in JSON_COLUMNS:
        if name in columns:
            columns[name] = None if columns[name] is None else to_json(columns[name])
    settings = ", ".join(f"{name} = ?" for name in columns)
    tx.execute(f"UPDATE run SET {settings} WHERE run_id = ?", [*columns.values(), run_id])


def replace_predictions(tx: Transaction, run_id: str, rows: list[dict[str, Any]]) -> None:
    """Store what `predictions.parquet` of a finished run holds."""
    tx.execute("DELETE FROM prediction WHERE run_id = ?", [run_id])
    for row in rows:  # some ten rows
        values = [row[k] for k in ("row_id", "split", "prompt", "reference", "base", "tuned")]
        tx.execute("INSERT INTO prediction VALUES (?, ?, ?, ?, ?, ?, ?)", [run_id, *values])


OWN = frozenset({"name", "notes", "seed", "gate_override"})  # what may differ between repetitions


def settings_of(run: Mapping[str, Any]) -> str:
    """A key that runs share which differ in nothing but their seed."""
    config = {field: value for field, value in run["config"].items() if field not in OWN}
    return json.dumps([run["data_fingerprint"], config], sort_keys=True, default=str)


def repeated(runs: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The runs by their settings, in the order in which each was first met. A run that has the seed too of
    another says nothing new of their settings and stands by itself."""
    groups: dict[str, list[dict[str, Any]]] = {}
    twice = []
    for run in runs:
        group = groups.setdefault(settings_of(run), [])
        if any(run["config"].get("seed") == other["config"].get("seed") for other in group):
            twice.append([run])
        else:
            group.append(run)
    return [*groups.values(), *twice]
