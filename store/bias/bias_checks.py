"""Finished and unfinished bias checks, and classifiers that can judge continuations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypedDict

from store.bias.config import KIND, BiasConfig
from store.bias.schemas import BiasCheck, BiasResult, BiasSummary
from store.core.errors import NotFoundError
from store.core.schemas import Job
from store.core.version_folders import is_reference
from store.db.named_query import named_query
from store.db.records import read_records, to_json
from store.jobs.job_queue import is_id, to_utc
from store.jobs.schemas import GroupedEvaluation, NamedClassifier
from store.registry.model_versions import get_version
from store.runs import runs
from store.runs.card_text import get_last_part, parse_hub_id

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

JSON_COLUMNS = ("config", "report", "details")
_OF = "($1 = '' OR run_id = $1) AND ($2 = '' OR model = $2) AND ($3 = '' OR contains(config::VARCHAR, $3))"


@named_query
def newest(db: Queryable, *, run_id: str = "", model: str = "", evaluation_id: str = "") -> BiasCheck | None:
    """Return the newest check of a run, a model by name (NAME@3), or groups of an evaluation, or None."""
    sql = f"SELECT * FROM bias_check WHERE {_OF} ORDER BY created_at DESC, job_id DESC LIMIT 1"
    rows = read_records(db.query(sql, [run_id, model, evaluation_id]), BiasCheck, JSON_COLUMNS)
    return rows[0] if rows else None


@named_query
def listed(db: Queryable, *, run_id: str = "", evaluation_id: str = "", limit: int = 50) -> list[BiasSummary]:
    """Return checks of a run, or with groups of an evaluation, newest first."""
    sql = f"""
        SELECT job_id, run_id, model, against, report ->> 'sentence' AS sentence,
               (report ->> 'worse')::INTEGER AS worse, (report ->> 'cant_tell')::INTEGER AS cant_tell,
               created_by, created_at
        FROM bias_check WHERE {_OF} ORDER BY created_at DESC, job_id DESC LIMIT {int(limit)}"""
    return read_records(db.query(sql, [run_id, "", evaluation_id]), BiasSummary)


@named_query
def get(db: Queryable, job_id: str) -> BiasCheck:
    """Return the check of that job. Raises NotFoundError."""
    rows = read_records(
        db.query("SELECT * FROM bias_check WHERE job_id = ?", [job_id]), BiasCheck, JSON_COLUMNS
    )
    if not rows:
        raise NotFoundError(f"Bias check {job_id} not found.", fix="It may have been deleted.")
    return rows[0]


@named_query
def unfinished(db: Queryable, *, run_id: str = "", evaluation_id: str = "") -> list[Job]:
    """Return check jobs without a result for this run or groups of this evaluation, newest first."""
    sql = """
        SELECT * FROM job WHERE kind = $1 AND status <> 'finished'
        AND (($2 <> '' AND config ->> 'run' = $2) OR ($3 <> '' AND contains(config::VARCHAR, $3)))
        ORDER BY created_at DESC, job_id DESC"""
    return read_records(db.query(sql, [KIND, run_id, evaluation_id]), Job, ("config", "error", "result"))


def insert(tx: Transaction, job: Job, result: BiasResult, names: tuple[str, str], at: float) -> None:
    """Record the results of the finished `job`; names: of the model and of its baseline."""
    config = BiasConfig.parse(job.config)
    tx.execute(
        "INSERT INTO bias_check VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            job.job_id,
            config.run or None,
            *names,
            to_json(config.document()),
            to_json(result.report),
            to_json(result.details),
            job.created_by,
            to_utc(at),
        ],
    )


MAX_EVALUATIONS = 2  # maximum evaluations of a classifier, from whose rows its error rates are computed


class ClassifierOption(TypedDict):
    """A classifier to choose. labels: those of its held-out rows, the most frequent first."""

    classifier: str  # run id or NAME@3
    name: str
    labels: list[str]


@named_query
def list_classifiers(db: Queryable, limit: int = 100) -> list[ClassifierOption]:
    """Return classifiers: registered versions first, then runs, newest first."""
    sql = """
        WITH headed AS (
            SELECT run_id, name, created_at,
                   verdict -> '$.classification.models.tuned.classes[*].label' AS labels
            FROM run_overview WHERE status = 'finished' AND config ->> 'task' = 'classification'
        )
        SELECT classifier, name, labels FROM (
            SELECT 0 AS place, v.created_at, m.name || '@' || v.version AS classifier,
                   m.name || '@' || v.version AS name, to_json(h.labels) AS labels
            FROM model_version v JOIN registered_model m USING (model_id) JOIN headed h USING (run_id)
            UNION ALL
            SELECT 1, created_at, run_id, name, to_json(labels) FROM headed
        ) ORDER BY place, created_at DESC, classifier LIMIT ?"""
    rows = db.query(sql, [limit]).to_pylist()
    return [
        ClassifierOption(
            classifier=row["classifier"], name=row["name"], labels=json.loads(row["labels"] or "[]") or []
        )
        for row in rows
    ]


def resolve_classifier(db: Queryable, classifier: str) -> NamedClassifier:
    """Resolve a classifier for a check: a run by its id, NAME@3, or else a model by name.

    Raises NotFoundError, also for the id of a deleted run, since no model has such a name.
    """
    model = classifier
    if is_reference(classifier):
        version = get_version(db, classifier)
        tuned = version.source.checkpoint == "tuned"
        run = runs.find_run(db, version.run_id) if version.run_id and tuned else None
        name = f"{version.name}@{version.version}"
    else:
        run = runs.get_run(db, classifier) if is_id("run", classifier) else runs.find_run(db, classifier)
        # omit a folder's path: the name appears with the figures in a model's public card
        name, model = (
            (run.name, "") if run else (parse_hub_id(classifier) or get_last_part(classifier), classifier)
        )
    run_id = run.run_id if run else None
    return {"name": name, "run_id": run_id, "evaluations": _list_classifier_evaluations(db, run_id, model)}


def _list_classifier_evaluations(db: Queryable, run_id: str | None, model: str) -> list[GroupedEvaluation]:
    """Return the newest evaluations of the classifier, for a run those of its final model.

    Evaluations on all rows or on training rows are excluded, because a classifier is better on rows that
    it was trained on.
    """
    sql = """
        SELECT evaluation_id, name, data_fingerprint AS fingerprint FROM evaluation
        WHERE ((run_id = $1 AND checkpoint = 'tuned') OR (run_id IS NULL AND model = $2))
            AND part IN ('validation', 'test')
        ORDER BY created_at DESC, evaluation_id DESC LIMIT $3"""
    return read_records(db.query(sql, [run_id, model, MAX_EVALUATIONS]), GroupedEvaluation)
