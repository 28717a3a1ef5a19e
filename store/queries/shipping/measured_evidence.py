"""What was measured of a version: evaluations beside another model, and how sure and how fast it is.

An evaluation of the run that a version came from, of the same checkpoint, is one of the version: the weights
are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from store.catalog.metric_table import METRICS
from store.contract.errors import NotFoundError, TunebenchError
from store.db.named_query import named_query
from store.db.records import records
from store.documents.evaluations.evaluation import Evaluation
from store.documents.shipping.gate import CheckEvidence, GateRow
from store.documents.shipping.version import ModelVersion
from store.queries.data import datasets
from store.queries.evaluations import evaluation_pairs, evaluations
from store.queries.shipping import run_evidence
from store.queries.shipping.gate_candidates import Candidate, Check, gather_command, name_of

if TYPE_CHECKING:
    from store.db.database import Queryable

METRIC = "eval/"


@named_query
def evaluations_of(db: Queryable, version: ModelVersion, *, limit: int = 200) -> list[Evaluation]:
    """Those of a version, and those of the same weights as a run left them, newest first."""
    return of_weights(db, name_of(version), version["run_id"], version["source"]["checkpoint"], limit)


def of_weights(
    db: Queryable, reference: str | None, run_id: str | None, checkpoint: str | None, limit: int
) -> list[Evaluation]:
    """Those of the version NAME@3, and of the run's checkpoint, newest first; null is none."""
    sql = """
        SELECT * FROM evaluation
        WHERE (model = $1 AND run_id IS NULL) OR (run_id = $2 AND checkpoint = $3)
        ORDER BY created_at DESC, evaluation_id DESC LIMIT $4"""
    table = db.query(sql, [reference, run_id, checkpoint, limit])
    return records(table, Evaluation, evaluations.JSON_COLUMNS)


def on_rows(
    candidates: list[Evaluation],
    check: Check,
    fingerprint: str,
    metric: str,
    like: Evaluation | None = None,
) -> Evaluation | None:
    """The newest of them that measured the metric on the rows of a check: of those that were asked as `like`
    was, where there are such."""
    newest = None
    for entry in candidates:
        if _is_on(entry, check, fingerprint, metric):
            newest = newest or entry
            if like is None or not evaluation_pairs.unlike_by(entry, like, metric):
                return entry
    return newest


def tries(
    candidates: list[Evaluation],
    check: Check,
    fingerprint: str,
    metric: str,
    others: Sequence[Evaluation] = (),
) -> int:
    """How often the metric was measured on the rows of a check, in whatever way: the newest takes the place
    of those before, so that each more is one more chance. `others` are of the other model: those that were
    made since the first of the version, which was known by then."""
    own, its = (
        [entry for entry in entries if _is_on(entry, check, fingerprint, metric)]
        for entries in (candidates, others)
    )
    first = min((entry["created_at"] for entry in own), default=None)
    return len(own) + sum(first is not None and entry["created_at"] > first for entry in its)


def _is_on(entry: Evaluation, check: Check, fingerprint: str, metric: str) -> bool:
    same = entry["data_fingerprint"] == fingerprint and entry["part"] == check["part"]
    same = same and (entry["config"].get("where") or None) == (check["where"] or None)
    return same and any(figure["metric"] == METRIC + metric for figure in entry["figures"])


def _rows(db: Queryable, evaluation: Evaluation, metric: str) -> GateRow:
    table = evaluations.scores(db, evaluation["evaluation_id"])
    lines = [line for line in table.to_pylist() if line["metric"] == METRIC + metric]
    figure = next(figure for figure in evaluation["figures"] if figure["metric"] == METRIC + metric)
    return {
        "evaluation_id": evaluation["evaluation_id"],
        "name": evaluation["name"],
        "figure": figure,
        "row_ids": [line["row_id"] for line in lines],
        "scores": [line["score"] for line in lines],
        "statistics": [line["statistics"] for line in lines],
        "groups": evaluations.groups(db, evaluation["evaluation_id"]),
    }


def evaluations_of_base(db: Queryable, version: ModelVersion) -> list[Evaluation]:
    """Evaluations of what a version was tuned from: by name, or as the base of its run."""
    sql = """
        SELECT * FROM evaluation
        WHERE (model = $1 AND run_id IS NULL) OR (run_id = $2 AND checkpoint = 'base')
        ORDER BY created_at DESC, evaluation_id DESC LIMIT 200"""
    table = db.query(sql, [version["base_model"], version["run_id"]])
    return records(table, Evaluation, evaluations.JSON_COLUMNS)


def _paired(
    db: Queryable, candidate: Candidate, check: Check, other: str, of_other: list[Evaluation]
) -> CheckEvidence:
    """The version's rows and the other's, or what of them is missing."""
    try:
        dataset = datasets.get_dataset(db, check["dataset"])
    except NotFoundError as error:
        return {"missing": f"{error.message} The gate names it.", "other": other}
    metric, fingerprint = check["metric"], dataset["fingerprint"]
    its = on_rows(of_other, check, fingerprint, metric)
    of_version = evaluations_of(db, candidate.version)
    own = on_rows(of_version, check, fingerprint, metric, its)
    lacking = [name for name, entry in ((candidate.reference, own), (other, its)) if entry is None]
    if own is None or its is None:
        sentence = (
            f"{' and '.join(lacking)} was not evaluated on {dataset['name']} by {METRICS[metric].title} yet."
        )
        if len(lacking) > 1:
            sentence = sentence.replace(" was ", " were ")
        return {"missing": sentence, "other": other, **gather_command(candidate)}
    if ways := evaluation_pairs.unlike_by(own, its, metric):
        sentence = (
            f"{candidate.reference} was not asked as {other} was on {dataset['name']} ({'; '.join(ways)}),"
            " which may make answers differ by itself."
        )
        return {"missing": sentence, "other": other, **gather_command(candidate)}
    return {
        "rows": _rows(db, own, metric),
        "other_rows": _rows(db, its, metric),
        "other": other,
        "tries": tries(of_version, check, fingerprint, metric, of_other),
        **gather_command(candidate),
    }


def not_worse(db: Queryable, candidate: Candidate, check: Check) -> CheckEvidence:
    holder = candidate.holder
    if holder is None:
        return {"other": ""}
    return _paired(db, candidate, check, name_of(holder), evaluations_of(db, holder))


def better(db: Queryable, candidate: Candidate, check: Check) -> CheckEvidence:
    version = candidate.version
    base = version["base_model"]
    if check["dataset"]:
        if not base:
            return {"missing": "It is a whole model that was imported: nobody knows its base."}
        return _paired(db, candidate, check, base, evaluations_of_base(db, version))
    verdict = run_evidence.verdict_of(db, version)
    if verdict is None:
        instead = " Give this check a data set and a metric: it is measured against its base there."
        return {"missing": run_evidence.no_verdict(version) + (instead if base else "")}
    gain = verdict["gain"]
    return {"gain": gain, "gain_unit": gain["unit"] if gain else "", "other": base or "its base"}


def calibration(db: Queryable, candidate: Candidate, check: Check) -> CheckEvidence:
    try:
        dataset = datasets.get_dataset(db, check["dataset"])
    except NotFoundError as error:
        return {"missing": f"{error.message} The gate names it."}
    of_version = evaluations_of(db, candidate.version)
    own = on_rows(of_version, check, dataset["fingerprint"], "ece")
    if own is None:
        sentence = (
            f"{candidate.reference} was not evaluated on {dataset['name']} by {METRICS['ece'].title} yet."
        )
        return {"missing": sentence, **gather_command(candidate)}
    sql = """
        SELECT probability, prediction = label AS right FROM read_parquet(?)
        WHERE probability IS NOT NULL AND label IS NOT NULL ORDER BY row_id"""
    path = str(evaluations.predictions_path(db, own["evaluation_id"]))
    try:
        table = db.query(sql, [path])
    except TunebenchError:
        return {"missing": f"The rows of {own['name']} are gone.", **gather_command(candidate)}
    return {
        "certainty": {
            "evaluation_id": own["evaluation_id"],
            "probability": table["probability"].to_pylist(),
            "right": table["right"].to_pylist(),
        },
        "tries": tries(of_version, check, dataset["fingerprint"], "ece"),
        **gather_command(candidate),
    }


def latency(db: Queryable, candidate: Candidate, check: Check) -> CheckEvidence:
    timed = [
        entry
        for entry in evaluations_of(db, candidate.version)
        if entry["details"]["seconds"].get("answers") and entry["n"]
    ]
    if not timed:
        return {
            "missing": f"No evaluation of {candidate.reference} with answers was timed yet.",
            "command": f"tunebench evaluate --model {candidate.quoted} --metric chrf --dataset DATASET",
        }
    device = timed[0]["details"]["device_name"]
    seconds = [
        entry["details"]["seconds"]["answers"] / entry["n"]
        for entry in timed
        if entry["details"]["device_name"] == device
    ]
    return {
        "seconds": seconds,
        "device": device,
        "tries": len({entry["details"]["device_name"] for entry in timed}),
        "command": f"tunebench evaluate --model {candidate.quoted} --metric chrf --dataset DATASET",
    }
