"""Evaluations: finished ones from the table, unfinished ones from the queue, rows from their Parquet files.

The Parquet files are in the job folders. Two evaluations can be compared if their row ids mean the same, that
is, if their data has the same fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from store.core.errors import NotFoundError
from store.core.job_folder import JobDir
from store.core.job_kinds import ALIVE
from store.core.schemas import Job
from store.data.schemas import Dataset
from store.db.named_query import named_query, register_reference
from store.db.records import read_records, read_scalar, to_json
from store.evaluation import scored_rows
from store.evaluation.schemas import (
    EvaluatedRow,
    Evaluation,
    EvaluationDetails,
    EvaluationIdentity,
    EvaluationResult,
    EvaluationSummary,
    PairedRow,
    RowScore,
)
from store.jobs.job_queue import make_placeholders, to_utc

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

KIND = "evaluate"
JSON_COLUMNS = ("config", "figures", "details")
_FIGURE = (
    '[{"metric":"VARCHAR","value":"DOUBLE","low":"DOUBLE","high":"DOUBLE","n":"BIGINT","better":"VARCHAR",'
    '"bounds":"DOUBLE[]","failed":"VARCHAR","estimator":"VARCHAR"}]'
)
_LINE = f"""e.evaluation_id, e.name, e.model, e.run_id, r.name AS run_name, e.checkpoint, e.dataset_id,
    e.dataset_name, e.data_fingerprint, e.part, e.n, e.created_at, e.created_by, e.config,
    to_json(from_json(e.figures, '{_FIGURE}')) AS figures
    FROM evaluation e LEFT JOIN run r ON r.run_id = e.run_id"""  # the full documents can be large


# -- reads ------------------------------------------------------------------------------------------


@named_query
def list_evaluations(db: Queryable, *, run_id: str | None = None, limit: int = 200) -> list[Evaluation]:
    """Return finished evaluations, of one run or of all models, newest first."""
    where, params = ("WHERE run_id = ?", [run_id]) if run_id is not None else ("", [])
    sql = f"SELECT * FROM evaluation {where} ORDER BY created_at DESC, evaluation_id DESC LIMIT ?"
    return read_records(db.query(sql, [*params, limit]), Evaluation, JSON_COLUMNS)


@named_query
def get(db: Queryable, name: str) -> Evaluation:
    """Return the evaluation with this id, or the newest with this name. Raises NotFoundError."""
    sql = (
        "SELECT * FROM evaluation WHERE evaluation_id = ? OR name = ?"
        " ORDER BY evaluation_id = ? DESC, created_at DESC LIMIT 1"
    )
    rows = read_records(db.query(sql, [name, name, name]), Evaluation, JSON_COLUMNS)
    if not rows:
        raise NotFoundError(f"There is no evaluation {name!r}.", fix="List them with: tunebench evaluations")
    return rows[0]


for _kind in (Evaluation, EvaluationIdentity):
    register_reference(_kind, lambda evaluation: evaluation.evaluation_id, get)


@named_query
def unfinished(db: Queryable, run_id: str | None = None) -> list[Job]:
    """Return evaluation jobs without a result (queued, running, failed or stopped), oldest first.

    run_id: only jobs of this run, all if None.
    """
    where, params = ("AND config ->> 'run' = ?", [run_id]) if run_id is not None else ("", [])
    sql = f"SELECT * FROM job WHERE kind = ? AND status <> 'finished' {where} ORDER BY created_at, job_id"
    return read_records(db.query(sql, [KIND, *params]), Job, ("config", "error", "result"))


@named_query
def listed(
    db: Queryable,
    *,
    search: str = "",
    dataset_id: str = "",
    model: str = "",
    created_by: str = "",
    limit: int = 25,
    offset: int = 0,
) -> tuple[int, list[EvaluationSummary]]:
    """Return the number of matching finished evaluations and a page of them, newest first.

    search: part of a name, notes, data set, model or run; model: the name of a model or run; created_by: the
    person who requested it.
    """
    where = """
        contains(lower(concat_ws(' ', e.name, e.notes, e.dataset_name, e.model, r.name)), lower($1))
        AND ($2 = '' OR e.dataset_id = $2) AND ($3 = '' OR coalesce(r.name, e.model) = $3)
        AND ($4 = '' OR e.created_by = $4)
    """
    params: list[Any] = [search, dataset_id, model, created_by]
    counted = f"SELECT count(*) FROM evaluation e LEFT JOIN run r ON r.run_id = e.run_id WHERE {where}"
    total = int(read_scalar(db.query(counted, params)))
    sql = f"SELECT {_LINE} WHERE {where} ORDER BY e.created_at DESC, e.evaluation_id DESC LIMIT $5 OFFSET $6"
    return total, read_records(
        db.query(sql, [*params, limit, offset]), EvaluationSummary, ("config", "figures")
    )


@named_query
def models(db: Queryable) -> list[str]:
    """Return the names of the evaluated runs and models."""
    sql = """
        SELECT DISTINCT coalesce(r.name, e.model) AS name
        FROM evaluation e LEFT JOIN run r ON r.run_id = e.run_id ORDER BY name
    """
    return [str(name) for name in db.query(sql)["name"].to_pylist()]


@named_query
def sliced(db: Queryable, evaluation_id: str, metric: str, other: str = "") -> pa.Table:
    """Return row_id, score, label, prompt length and answer length (characters) of every row scored by
    `metric`.

    With another evaluation, only shared rows are returned and `other` is its score of the same row. Over a
    Client, QueryError if a file is missing.
    """
    folder = _get_folder(db, evaluation_id)
    paths = [str(folder.predictions), str(folder.scores), metric]
    beside, joined = "NULL::DOUBLE", ""
    if other:
        beside, joined = "o.score", "JOIN read_parquet($4) o ON o.row_id = p.row_id AND o.metric = $3"
        paths.append(str(_get_folder(db, other).scores))
    sql = f"""
        SELECT p.row_id, s.score, {beside} AS other, p.label, length(p.prompt) AS prompt,
               length(p.reference) AS answer
        FROM read_parquet($1) p JOIN read_parquet($2) s ON s.row_id = p.row_id AND s.metric = $3
        {joined} ORDER BY p.row_id
    """
    return db.query(sql, paths)


@named_query
def comparable(db: Queryable, evaluation: EvaluationIdentity, limit: int = 100) -> list[EvaluationSummary]:
    """Return other evaluations on the same data, newest first; they may share rows."""
    sql = (
        f"SELECT {_LINE} WHERE e.data_fingerprint = ? AND e.evaluation_id <> ?"
        " ORDER BY e.created_at DESC, e.evaluation_id DESC LIMIT ?"
    )
    params = [evaluation.data_fingerprint, evaluation.evaluation_id, limit]
    return read_records(db.query(sql, params), EvaluationSummary, ("config", "figures"))


def list_dependent_titles(db: Queryable, column: str, value: str) -> list[str]:
    """Return titles of finished, queued and running evaluations that need a data set or a run.

    column: `dataset_id` or `run_id`.
    """
    key = {"dataset_id": "dataset", "run_id": "run"}[column]
    alive = sorted(ALIVE)
    sql = (
        f"SELECT name FROM evaluation WHERE {column} = ? UNION ALL"
        f" SELECT title FROM job WHERE kind = ? AND config ->> '{key}' = ?"
        f" AND status IN ({make_placeholders(alive)})"
    )
    return [str(name) for name in db.query(sql, [value, KIND, value, *alive])["name"].to_pylist()]


def _get_folder(db: Queryable, evaluation_id: str) -> JobDir:
    return JobDir(scored_rows.get_loss_path(db, evaluation_id).parent)


def get_predictions_path(db: Queryable, evaluation_id: str) -> Path:
    """Return the path of an evaluation's predictions, whether or not the file exists."""
    return _get_folder(db, evaluation_id).predictions


@named_query
def scores(db: Queryable, evaluation_id: str) -> pa.Table:
    """Return every metric's score of every row, in the order the job wrote them.

    Over a Client, QueryError if the file is missing.
    """
    path = str(_get_folder(db, evaluation_id).scores)
    return db.query("SELECT * FROM read_parquet(?, file_row_number = true) ORDER BY file_row_number", [path])


@named_query
def groups(db: Queryable, evaluation_id: str) -> dict[int, Any] | None:
    """Map row id to the group of rows that are resampled together; None if rows aren't grouped."""
    path = str(get_predictions_path(db, evaluation_id))
    table = db.query('SELECT row_id, "group" FROM read_parquet(?) WHERE "group" IS NOT NULL', [path])
    return dict(zip(*(table[name].to_pylist() for name in table.column_names), strict=True)) or None


@named_query
def page(
    db: Queryable,
    evaluation_id: str,
    metric: str = "",
    *,
    better: str = "higher",
    limit: int = 10,
    offset: int = 0,
) -> tuple[int, list[EvaluatedRow]]:
    """Return the number of rows and a page of them.

    Rows that `metric` could not score come first, then those with the worst scores.
    """
    folder = _get_folder(db, evaluation_id)
    total = int(read_scalar(db.query("SELECT count(*) FROM read_parquet(?)", [str(folder.predictions)])))
    order = "ASC" if better == "higher" else "DESC"
    sql = f"""
        SELECT p.* FROM read_parquet($1) p
        LEFT JOIN (SELECT row_id, score, reason FROM read_parquet($2) WHERE metric = $3) s
               ON s.row_id = p.row_id
        ORDER BY s.reason IS NULL, s.score {order} NULLS LAST, p.row_id LIMIT $4 OFFSET $5
    """
    table = db.query(sql, [str(folder.predictions), str(folder.scores), metric, limit, offset])
    rows = read_records(table, EvaluatedRow)
    scores = _read_scores(db, folder, [row.row_id for row in rows])
    for row in rows:
        row.scores = scores[row.row_id]
    return total, rows


@dataclass(kw_only=True)
class _ScoreRow(RowScore):
    row_id: int
    metric: str


def _read_scores(db: Queryable, folder: JobDir, ids: list[int]) -> dict[int, dict[str, RowScore]]:
    """Return the scores of these rows by row id and metric."""
    sql = (
        "SELECT row_id, metric, score, reason FROM read_parquet($1) WHERE list_contains($2::BIGINT[], row_id)"
    )
    scores: dict[int, dict[str, RowScore]] = {row_id: {} for row_id in ids}
    for line in read_records(db.query(sql, [str(folder.scores), ids]), _ScoreRow):
        scores[line.row_id][line.metric] = RowScore(score=line.score, reason=line.reason)
    return scores


@named_query
def shared(
    db: Queryable, first: str, second: str, metric: str, *, limit: int = 5
) -> tuple[int, list[PairedRow]]:
    """Return the number of shared rows of two evaluations, and those that differ most in `metric`."""
    folders = [_get_folder(db, name) for name in (first, second)]
    files = [str(folder.predictions) for folder in folders]
    sql = "SELECT count(*) FROM read_parquet(?) a JOIN read_parquet(?) b ON a.row_id = b.row_id"
    total = int(read_scalar(db.query(sql, files)))
    sql = """
        SELECT a.row_id, a.prompt, a.reference, a.prediction AS first, b.prediction AS second,
               s.score AS first_score, t.score AS second_score
        FROM read_parquet($1) a JOIN read_parquet($2) b ON a.row_id = b.row_id
        JOIN read_parquet($3) s ON s.row_id = a.row_id AND s.metric = $5
        JOIN read_parquet($4) t ON t.row_id = a.row_id AND t.metric = $5
        WHERE s.score <> t.score ORDER BY abs(s.score - t.score) DESC, a.row_id LIMIT $6
    """
    params = [*files, *(str(folder.scores) for folder in folders), metric, limit]
    return total, read_records(db.query(sql, params), PairedRow)


@named_query
def probes(db: Queryable, evaluation_id: str) -> pa.Table:
    """Return the items of the general probes. Over a Client, QueryError if there are none."""
    path = str(_get_folder(db, evaluation_id).probes)
    return db.query(
        "SELECT * EXCLUDE (model, file_row_number) FROM read_parquet(?, file_row_number = true)"
        " ORDER BY file_row_number",
        [path],
    )


# -- writes -----------------------------------------------------------------------------------------


def insert(
    tx: Transaction, job: Job, result: EvaluationResult, dataset: Dataset, model: str, at: float
) -> None:
    """Record the results of the finished `job`; `model`: model name, for a run its base model's."""
    config = job.config
    details = EvaluationDetails(
        counts=result.counts,
        reasons=result.reasons,
        notices=result.notices,
        probes=result.probes,
        seconds=result.seconds,
        peak_memory_gib=result.peak_memory_gib,
        device=result.device,
        device_name=result.device_name,
        dtype=result.dtype,
        versions=result.versions,
    )
    row = {
        "evaluation_id": job.job_id,
        "name": job.title,
        "notes": config["notes"],
        "model": model,
        "run_id": config["run"] or None,
        "checkpoint": config["checkpoint"],
        "dataset_id": dataset.dataset_id,
        "dataset_name": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "part": config["part"],
        "n": result.n,
        "config": to_json(config),
        "figures": to_json(result.figures),
        "details": to_json(details),
        "created_at": to_utc(at),
        "created_by": job.created_by,
    }
    places = ", ".join(f"${name}" for name in row)
    tx.execute(f"INSERT INTO evaluation ({', '.join(row)}) VALUES ({places})", row)
