"""Runs: what was trained, on what, and what came of it. A run shares its id with its job.

Lists come from the view `run_overview`, which joins run, job and the summaries of their metrics, so no
list of runs ever scans points.

Which runs repeat one another: the same settings on the same rows, with another seed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from store.core.errors import NotFoundError, StateError
from store.core.schemas import ConfigDocument
from store.core.training_schemas import MeasuredRun
from store.db.named_query import named_query
from store.db.records import read_records, read_scalar, to_json
from store.evaluation.verdict_schemas import Verdict
from store.jobs.job_queue import make_placeholders, to_utc
from store.runs.schemas import Alert, Prediction, Run, RunChoice, RunFacts
from store.training.train_config import TrainConfig, get_speed_settings

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction


JSON_COLUMNS = ("config", "facts", "verdict", "error")
MAX_LISTED = 10  # ids in the refusal of a name that several runs have
SEARCHED = ("name", "notes", "dataset_name", "model", "method", "run_id")


@named_query
def list_runs(
    db: Queryable,
    *,
    search: str = "",
    statuses: Collection[str] = (),
    created_by: str = "",
    limit: int = 50,
    offset: int = 0,
) -> list[Run]:
    """Rows of run_overview, newest first; `search` is looked for in names, notes, data set and model;
    `created_by`: those that this person launched."""
    where, params = _build_where(search, statuses, created_by)
    sql = f"SELECT * FROM run_overview {where} ORDER BY created_at DESC, run_id DESC LIMIT ? OFFSET ?"
    return read_records(db.query(sql, [*params, limit, offset]), Run, JSON_COLUMNS)


@named_query
def list_run_choices(
    db: Queryable, *, search: str = "", statuses: Collection[str] = (), limit: int = 50
) -> list[RunChoice]:
    """The runs that `list_runs` gives, without their documents: 200 runs have 2 MB of them."""
    where, params = _build_where(search, statuses, "")
    sql = (
        "SELECT run_id, number, name, model, coalesce(config ->> 'task', 'sft') AS task, status"
        f" FROM run_overview {where} ORDER BY created_at DESC, run_id DESC LIMIT ?"
    )
    return read_records(db.query(sql, [*params, limit]), RunChoice)


@named_query
def count_runs(
    db: Queryable, *, search: str = "", statuses: Collection[str] = (), created_by: str = ""
) -> int:
    """How many runs `list_runs` would give without a limit."""
    where, params = _build_where(search, statuses, created_by)
    return int(read_scalar(db.query(f"SELECT count(*) FROM run_overview {where}", params)))


@named_query
def status_counts(db: Queryable) -> dict[str, int]:
    """status -> number of runs, for the states that some run is in."""
    table = db.query("SELECT status, count(*) AS n FROM run_overview GROUP BY status")
    return dict(zip(table["status"].to_pylist(), table["n"].to_pylist(), strict=True))


@named_query
def get_run(db: Queryable, run: str) -> Run:
    """The run with this id, or the newest with this name. Raises NotFoundError."""
    sql = (
        "SELECT * FROM run_overview WHERE run_id = ? OR name = ?"
        " ORDER BY run_id = ? DESC, created_at DESC, run_id DESC LIMIT 1"
    )
    rows = read_records(db.query(sql, [run, run, run]), Run, JSON_COLUMNS)
    if not rows:
        raise NotFoundError(f"There is no run {run!r}.", fix="List them with: tunebench runs")
    return rows[0]


def get_only_run(db: Queryable, run: str) -> Run:
    """The run with this id, or the only one with this name: for what changes it. Raises NotFoundError, and
    StateError that lists the ids where several runs have the name."""
    chosen = get_run(db, run)
    sql = "SELECT run_id FROM run_overview WHERE name = ? ORDER BY created_at DESC, run_id DESC"
    ids = [row["run_id"] for row in db.query(sql, [run]).to_pylist()]
    if chosen.run_id != run and len(ids) > 1:
        newest = ", ".join(ids[:MAX_LISTED]) + (", …" if len(ids) > MAX_LISTED else "")
        raise StateError(
            f"{len(ids):,} runs are named {run!r}, newest first: {newest}.", fix="Name one of them by its id."
        )
    return chosen


@named_query
def get_runs(db: Queryable, run_ids: Collection[str]) -> list[Run]:
    """The runs with these ids, in the order asked for. Raises NotFoundError that names the first missing."""
    sql = f"SELECT * FROM run_overview WHERE run_id IN ({make_placeholders(run_ids)})"
    by_id = {run.run_id: run for run in read_records(db.query(sql, list(run_ids)), Run, JSON_COLUMNS)}
    for run_id in run_ids:
        if run_id not in by_id:
            raise NotFoundError(f"There is no run {run_id}.", fix="It may have been deleted.")
    return [by_id[run_id] for run_id in run_ids]


def find_run(db: Queryable, run_id: str) -> Run | None:
    """The run with this id; None where there is none."""
    rows = read_records(db.query("SELECT * FROM run_overview WHERE run_id = ?", [run_id]), Run, JSON_COLUMNS)
    return rows[0] if rows else None


@dataclass(kw_only=True)
class _Finished:
    """A finished run with what `measured` reads of its documents."""

    run_id: str
    name: str
    number: int
    method: str
    task: str
    model: str
    data_fingerprint: str | None
    config: ConfigDocument
    facts: RunFacts
    verdict: Verdict | None


def get_max_memory_gib(db: Queryable, run_id: str) -> float | None:
    """What a run was said to take at most before it began; None where nobody said."""
    sql = "SELECT CAST(facts ->> 'estimated_memory_high_gib' AS DOUBLE) AS gib FROM run WHERE run_id = ?"
    gib: list[float | None] = db.query(sql, [run_id])["gib"].to_pylist()
    return gib[0] if gib else None


def list_measured_runs(db: Queryable, *, limit: int = 300) -> list[MeasuredRun]:
    """What finished runs were predicted to need and what they needed, newest first."""
    sql = (
        "SELECT run_id, name, number, method, coalesce(config ->> 'task', 'sft') AS task, model,"
        " data_fingerprint, config, facts, verdict FROM run_overview"
        " WHERE status = 'finished' AND facts ->> 'peak_memory_gib' IS NOT NULL"
        " ORDER BY created_at DESC, run_id DESC LIMIT ?"
    )
    return [
        _make_measured_run(run)
        for run in read_records(db.query(sql, [limit]), _Finished, ("config", "facts", "verdict"))
    ]


def _make_measured_run(run: _Finished) -> MeasuredRun:
    facts, verdict = run.facts, run.verdict
    stopped, steps, rows = facts.get("stopped"), facts.get("estimated_steps"), facts.get("rows")
    return MeasuredRun(
        run_id=run.run_id,
        name=run.name,
        number=run.number,
        method=run.method,
        task=run.task,
        model=run.model,
        data_fingerprint=run.data_fingerprint,
        device_name=facts.get("device_name"),
        counted_memory_gib=facts.get("counted_memory_gib"),
        process_memory_gib=facts.get("process_memory_gib"),
        estimated_memory_gib=facts.get("estimated_memory_gib"),
        peak_memory_gib=facts.get("peak_memory_gib"),
        estimated_memory_low_gib=facts.get("estimated_memory_low_gib"),
        estimated_memory_high_gib=facts.get("estimated_memory_high_gib"),
        counted_seconds=facts.get("counted_seconds"),
        estimated_seconds=facts.get("estimated_seconds"),
        estimated_low_seconds=facts.get("estimated_low_seconds"),
        estimated_high_seconds=facts.get("estimated_high_seconds"),
        run_seconds=facts.get("run_seconds"),
        energy_wh=facts.get("energy_wh"),
        steps_timed=facts.get("steps_timed", False),
        other_work=facts.get("other_work"),
        course_seconds=facts.get("course_seconds"),
        train_rows=rows["train"] if rows else None,
        stopped=stopped.reason if stopped else None,
        course=min(1.0, stopped.step / steps) if steps and stopped and stopped.step else None,
        settings=get_speed_settings(run.config),
        gain=verdict.gain if verdict else None,
    )


@named_query
def predictions(db: Queryable, run_id: str) -> list[Prediction]:
    """Held-out prompts answered by base and tuned model, in the order in which the run wrote them."""
    sql = "SELECT * FROM prediction WHERE run_id = ? ORDER BY rowid"
    return read_records(db.query(sql, [run_id]), Prediction)


@named_query
def alerts(db: Queryable, job_id: str) -> list[Alert]:
    """What a job wants its user to know, oldest first."""
    sql = "SELECT * FROM alert WHERE job_id = ? ORDER BY raised_at"
    return read_records(db.query(sql, [job_id]), Alert)


def _build_where(search: str, statuses: Collection[str], created_by: str) -> tuple[str, list[Any]]:
    conditions, params = [], []
    if search:
        hits = " OR ".join(f"contains(lower({column}), lower(?))" for column in SEARCHED)
        conditions.append(f"({hits})")
        params += [search] * len(SEARCHED)
    if statuses:
        conditions.append(f"status IN ({make_placeholders(statuses)})")
        params += list(statuses)
    if created_by:
        conditions.append("created_by = ?")
        params.append(created_by)
    return ("WHERE " + " AND ".join(conditions) if conditions else ""), params


# -- writes -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NewRun:
    """A run that is about to be queued, of the job with the same id. dataset_name: as it is now; fingerprint:
    None until an import that it waits for is done; at: seconds since the epoch."""

    run_id: str
    config: TrainConfig
    dataset_id: str
    dataset_name: str
    fingerprint: str | None
    at: float


def insert(tx: Transaction, run: NewRun) -> None:
    """A new run; its number, which picks its colour, is the next free one."""
    config = run.config
    tx.execute(
        "INSERT INTO run (run_id, number, name, notes, dataset_id, dataset_name, data_fingerprint, model,"
        " method, seed, config, facts, created_at, created_by)"
        " VALUES (?, nextval('run_number'), ?, ?, ?, ?, ?, ?, ?, ?, ?, '{}', ?, ?)",
        [
            *(run.run_id, config.name, config.notes, run.dataset_id, run.dataset_name, run.fingerprint),
            *(config.model, config.method, config.seed, to_json(config.model_dump()), to_utc(run.at), tx.by),
        ],
    )


def update(tx: Transaction, run_id: str, **columns: Any) -> None:
    """Set columns of one run; documents are encoded here."""
    for name in JSON_COLUMNS:
        if name in columns:
            columns[name] = None if columns[name] is None else to_json(columns[name])
    settings = ", ".join(f"{name} = ?" for name in columns)
    tx.execute(f"UPDATE run SET {settings} WHERE run_id = ?", [*columns.values(), run_id])


def replace_predictions(tx: Transaction, run_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Store what `predictions.parquet` of a finished run holds."""
    tx.execute("DELETE FROM prediction WHERE run_id = ?", [run_id])
    for row in rows:  # some ten rows
        values = [row[k] for k in ("row_id", "split", "prompt", "reference", "base", "tuned")]
        tx.execute("INSERT INTO prediction VALUES (?, ?, ?, ?, ?, ?, ?)", [run_id, *values])


OWN = frozenset({"name", "notes", "seed", "gate_override"})  # what may differ between repetitions


def make_settings_key(run: Run) -> str:
    """A key that runs share which differ in nothing but their seed."""
    config = {field: value for field, value in run.config.items() if field not in OWN}
    return json.dumps([run.data_fingerprint, config], sort_keys=True, default=str)


def group_repetitions(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs by their settings, in the order in which each was first met. A run that has the seed too of
    another says nothing new of their settings and stands by itself."""
    groups: dict[str, list[Run]] = {}
    twice = []
    for run in runs:
        group = groups.setdefault(make_settings_key(run), [])
        if any(run.config.get("seed") == other.config.get("seed") for other in group):
            twice.append([run])
        else:
            group.append(run)
    return [*groups.values(), *twice]
