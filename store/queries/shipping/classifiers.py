"""Classifiers that can judge continuations: runs with a classification head, and what was registered of
them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypedDict

from store.contract.version_folders import is_reference
from store.db.named_query import named_query
from store.db.records import records
from store.documents.tables.job_order import GroupedEvaluation, NamedClassifier
from store.queries.jobs import is_id
from store.queries.runs import runs
from store.queries.shipping.versions import get_version
from store.words.card_parts import hub_id, last_part

if TYPE_CHECKING:
    from store.db.database import Queryable

MOST_EVALUATIONS = 2  # of a classifier, whose rows say how often it errs


class ListedClassifier(TypedDict):
    """One that can be chosen. labels: those of its held-out rows, the most frequent first."""

    classifier: str  # id of a run, or NAME@3
    name: str
    labels: list[str]


@named_query
def listed(db: Queryable, limit: int = 100) -> list[ListedClassifier]:
    """Registered versions first, then runs, the newest first."""
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
        ListedClassifier(
            classifier=row["classifier"], name=row["name"], labels=json.loads(row["labels"] or "[]") or []
        )
        for row in rows
    ]


def named(db: Queryable, classifier: str) -> NamedClassifier:
    """What a check is told of it: a run by its id, NAME@3, or else a model by name. Raises
    NotFoundError, also for the id of a run that is gone: no model is called like that."""
    model = classifier
    if is_reference(classifier):
        version = get_version(db, classifier)
        tuned = version["source"]["checkpoint"] == "tuned"
        run = runs.find_run(db, version["run_id"]) if version["run_id"] and tuned else None
        name = f"{version['name']}@{version['version']}"
    else:
        run = runs.get_run(db, classifier) if is_id("run", classifier) else runs.find_run(db, classifier)
        # a folder's path stays on this machine: the name goes with the figures into a model's public card
        name, model = (run["name"], "") if run else (hub_id(classifier) or last_part(classifier), classifier)
    run_id = run["run_id"] if run else None
    return {"name": name, "run_id": run_id, "evaluations": _evaluations(db, run_id, model)}


def _evaluations(db: Queryable, run_id: str | None, model: str) -> list[GroupedEvaluation]:
    """The newest of its answers to rows, of the run's model as it ended. Not those to every row of a data
    set, or to its training part: a classifier knows what it was trained on."""
    sql = """
        SELECT evaluation_id, name, data_fingerprint AS fingerprint FROM evaluation
        WHERE ((run_id = $1 AND checkpoint = 'tuned') OR (run_id IS NULL AND model = $2))
            AND part IN ('validation', 'test')
        ORDER BY created_at DESC, evaluation_id DESC LIMIT $3"""
    return records(db.query(sql, [run_id, model, MOST_EVALUATIONS]), GroupedEvaluation)
