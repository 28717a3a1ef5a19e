"""Runs: what was trained, on which data, and the results. A run has the same id as its job.

Lists come from the view `run_overview`, which joins run, job and the summaries of their metrics, so that
listing runs never scans metric points. Repetitions are runs with the same settings on the same rows, but with
another seed.
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
MAX_LISTED = 10  # maximum ids listed in the error for an ambiguous name
SEARCHED = ("name", "notes", "dataset_name", "model", "method", "run_id")


@named_query
def list_runs(
    db: Queryable,
    *,
    search: str = "",
    statuses: Collection[str] = (),
    created_by: str = "",
    archived: bool = False,
    limit: int = 50,
    offset: int = 0,
) -> list[Run]:
    """Return rows of run_overview, newest first.

    `search`: text in the name, notes, data set, model, method or run id; `created_by`: only runs launched by
    this person; `archived`: list archived runs too.
    """
    where, params = _build_where(search, statuses, created_by, archived=archived)
    sql = f"SELECT * FROM run_overview {where} ORDER BY created_at DESC, run_id DESC LIMIT ? OFFSET ?"
    return read_records(db.query(sql, [*params, limit, offset]), Run, JSON_COLUMNS)


@named_query
def list_run_choices(
    db: Queryable, *, search: str = "", statuses: Collection[str] = (), limit: int = 50
) -> list[RunChoice]:
    """Return the runs of `list_runs` that are not archived, without their documents (2 MB for 200 runs)."""
    where, params = _build_where(search, statuses)
    sql = (
        "SELECT run_id, number, name, model, coalesce(config ->> 'task', 'sft') AS task, status"
        f" FROM run_overview {where} ORDER BY created_at DESC, run_id DESC LIMIT ?"
    )
    return read_records(db.query(sql, [*params, limit]), RunChoice)


@named_query
def count_runs(
    db: Queryable,
    *,
    search: str = "",
    statuses: Collection[str] = (),
    created_by: str = "",
    archived: bool = False,
) -> int:
    """Return how many runs `list_runs` would return without a limit."""
    where, params = _build_where(search, statuses, created_by, archived=archived)
    return int(read_scalar(db.query(f"SELECT count(*) FROM run_overview {where}", params)))


@named_query
def status_counts(db: Queryable) -> dict[str, int]:
    """Return status -> number of runs, for every status that occurs."""
    table = db.query("SELECT status, count(*) AS n FROM run_overview GROUP BY status")
    return dict(zip(table["status"].to_pylist(), table["n"].to_pylist(), strict=True))


@named_query
def get_run(db: Queryable, run: str) -> Run:
    """Return the run with this id, or the newest with this name. Raises NotFoundError."""
    sql = (
        "SELECT * FROM run_overview WHERE run_id = ? OR name = ?"
        " ORDER BY run_id = ? DESC, created_at DESC, run_id DESC LIMIT 1"
    )
    rows = read_records(db.query(sql, [run, run, run]), Run, JSON_COLUMNS)
    if not rows:
        raise NotFoundError(f"There is no run {run!r}.", fix="List them with: tunebench runs")
    return rows[0]


def get_only_run(db: Queryable, run: str) -> Run:
    """Return the run with this id, or the only one with this name; use it before changing a run.

    Raises NotFoundError, and StateError that lists the ids if several runs have the name.
    """
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
    """Return the runs with these ids, in this order. Raises NotFoundError for the first missing id."""
    sql = f"SELECT * FROM run_overview WHERE run_id IN ({make_placeholders(run_ids)})"
    by_id = {run.run_id: run for run in read_records(db.query(sql, list(run_ids)), Run, JSON_COLUMNS)}
    for run_id in run_ids:
        if run_id not in by_id:
            raise NotFoundError(f"There is no run {run_id}.", fix="It may have been deleted.")
    return [by_id[run_id] for run_id in run_ids]


def select_existing_ids(db: Queryable, run_ids: Collection[str]) -> set[str]:
    """Return which of these ids are ids of runs."""
    sql = "SELECT run_id FROM run WHERE list_contains(?::VARCHAR[], run_id)"
    return {str(run_id) for run_id in db.query(sql, [list(run_ids)])["run_id"].to_pylist()}


def find_run_above_tags(db: Queryable, run_ids: Collection[str], most: int) -> str:
    """Return the name of one of the runs that has more than `most` tags; empty if none has."""
    sql = "SELECT name FROM run WHERE list_contains(?::VARCHAR[], run_id) AND len(tags) > ? LIMIT 1"
    names: list[str] = db.query(sql, [list(run_ids), most])["name"].to_pylist()
    return names[0] if names else ""


def find_run(db: Queryable, run_id: str) -> Run | None:
    """Return the run with this id, or None."""
    rows = read_records(db.query("SELECT * FROM run_overview WHERE run_id = ?", [run_id]), Run, JSON_COLUMNS)
    return rows[0] if rows else None


@dataclass(kw_only=True)
class _Finished:
    """A finished run with the fields that `list_measured_runs` reads."""

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
    """Return the upper estimate of a run's memory from before its start; None if not estimated."""
    sql = "SELECT CAST(facts ->> 'estimated_memory_high_gib' AS DOUBLE) AS gib FROM run WHERE run_id = ?"
    gib: list[float | None] = db.query(sql, [run_id])["gib"].to_pylist()
    return gib[0] if gib else None


def list_measured_runs(db: Queryable, *, limit: int = 300) -> list[MeasuredRun]:
    """Return the estimated and measured costs of finished runs, newest first."""
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
    """Return held-out prompts with the answers of base and tuned model, in the order the run wrote them."""
    sql = "SELECT * FROM prediction WHERE run_id = ? ORDER BY rowid"
    return read_records(db.query(sql, [run_id]), Prediction)


@named_query
def alerts(db: Queryable, job_id: str) -> list[Alert]:
    """Return a job's alerts, oldest first."""
    sql = "SELECT * FROM alert WHERE job_id = ? ORDER BY raised_at"
    return read_records(db.query(sql, [job_id]), Alert)


def _build_where(
    search: str, statuses: Collection[str], created_by: str = "", *, archived: bool = False
) -> tuple[str, list[Any]]:
    conditions: list[str] = [] if archived else ["NOT archived"]
    params: list[Any] = []
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
    """A run to be queued with the job of the same id.

    dataset_name: the present name; fingerprint: None until the import that it waits for is done; at: seconds
    since the epoch.
    """

    run_id: str
    config: TrainConfig
    dataset_id: str
    dataset_name: str
    fingerprint: str | None
    at: float


def insert(tx: Transaction, run: NewRun) -> None:
    """Insert a run with the next free number, which determines its color."""
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
    """Set columns of one run; documents are encoded as JSON here."""
    for name in JSON_COLUMNS:
        if name in columns:
            columns[name] = None if columns[name] is None else to_json(columns[name])
    settings = ", ".join(f"{name} = ?" for name in columns)
    tx.execute(f"UPDATE run SET {settings} WHERE run_id = ?", [*columns.values(), run_id])


def change_tags(
    tx: Transaction, run_ids: Collection[str], *, add: Collection[str], remove: Collection[str]
) -> None:
    """Remove tags from runs, then add some; the tags of a run are kept sorted, each once."""
    if not add and not remove:
        return
    tx.execute(
        "UPDATE run SET tags = list_sort(list_distinct(list_concat("
        "list_filter(tags, lambda tag: NOT list_contains(?::VARCHAR[], tag)), ?::VARCHAR[])))"
        " WHERE list_contains(?::VARCHAR[], run_id)",
        [list(remove), list(add), list(run_ids)],
    )


def set_archived(tx: Transaction, run_ids: Collection[str], archived: bool) -> None:
    """Move runs to the archive, or back."""
    tx.execute(
        "UPDATE run SET archived = ? WHERE list_contains(?::VARCHAR[], run_id)", [archived, list(run_ids)]
    )


def replace_predictions(tx: Transaction, run_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Store the contents of a finished run's `predictions.parquet`, replacing earlier ones."""
    tx.execute("DELETE FROM prediction WHERE run_id = ?", [run_id])
    for row in rows:  # about ten rows
        values = [row[k] for k in ("row_id", "split", "prompt", "reference", "base", "tuned")]
        tx.execute("INSERT INTO prediction VALUES (?, ?, ?, ?, ?, ?, ?)", [run_id, *values])


OWN = frozenset({"name", "notes", "seed", "gate_override"})  # fields that may differ between repetitions


def make_settings_key(run: Run) -> str:
    """Return a key shared by runs that differ only in their seed."""
    config = {field: value for field, value in run.config.items() if field not in OWN}
    return json.dumps([run.data_fingerprint, config], sort_keys=True, default=str)


def group_repetitions(runs: Sequence[Run]) -> list[list[Run]]:
    """Group runs by their settings, in order of first occurrence.

    A run with the same seed as another one in its group adds no information and forms a group of its own.
    """
    groups: dict[str, list[Run]] = {}
    twice = []
    for run in runs:
        group = groups.setdefault(make_settings_key(run), [])
        if any(run.config.get("seed") == other.config.get("seed") for other in group):
            twice.append([run])
        else:
            group.append(run)
    return [*groups.values(), *twice]
