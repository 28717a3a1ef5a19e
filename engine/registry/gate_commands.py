"""Commands of gates: set the checks a version has to pass, and queue missing evaluations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.server.command import ActivitySubject, Command
from engine.server.evaluation_commands import EvaluationCommands
from store.core.errors import ConfigError, NotFoundError
from store.core.job_kinds import ALIVE
from store.core.model_schemas import ModelVersion
from store.core.schemas import Person
from store.data import datasets
from store.db.database import Database, Queryable, Transaction
from store.evaluation import evaluation_pairs, evaluations
from store.evaluation.config import EvaluateConfig
from store.evaluation.schemas import Evaluation
from store.http.schemas import EmptyAnswer, EvaluationsQueued
from store.jobs import job_queue
from store.registry import gate_candidates, gate_checks, gate_evidence, model_versions
from store.registry.config import GateReference
from store.registry.gate_candidates import Candidate, format_version_reference
from store.registry.gate_checks import GateConfig, SetGate
from store.runs import runs

ROW_CHECKS = ("not_worse_than", "better_on_task", "calibration_under")


class GateCommands:
    """Commands of gates; `evaluating` queues evaluations."""

    def __init__(
        self, database: Database, evaluating: EvaluationCommands, clock: Callable[[], float]
    ) -> None:
        self.database, self.evaluating, self.clock = database, evaluating, clock

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {
            "set_gate": Command(SetGate, self.set_gate, _find_gate_subject, by_person=True),
            "gather_gate_evidence": Command(
                GateReference, self.gather, _find_checked_gate_subject, makes_work=True
            ),
        }

    def set_gate(self, body: SetGate, person: Person) -> EmptyAnswer:
        """Set the gate of an alias, with data sets by id. Raises ConfigError at the invalid check."""
        with self.database.transaction() as tx:
            model = model_versions.get_model(tx, body.model)
            document = _resolve_ids(tx, body.gate)
            at = job_queue.to_utc(self.clock())
            model_versions.set_gate(tx, model.model_id, body.alias, document, person, at)
        return {}

    def gather(self, body: GateReference) -> EvaluationsQueued:
        """Queue the evaluations that the gate needs, of the version and of what it is compared with, on the
        same rows.

        Evaluations already in progress are not queued again.
        """
        with self.database.transaction() as tx:
            candidate = gate_candidates.get_candidate(tx, body.version, body.alias)
            return {"job_ids": self.gather_for(tx, candidate, gate_checks.get_gate(tx, candidate))}

    def gather_for(self, tx: Transaction, candidate: Candidate, gate: GateConfig) -> list[str]:
        """Queue the missing evaluations of any gate within the caller's transaction; return the job ids."""
        checks = [check for check in gate.document()["checks"] if check["check"] in ROW_CHECKS]
        queued: dict[str, None] = {}
        for config in _list_missing_evaluations(tx, candidate, checks):
            queued[_find_running_job(tx, config) or self.evaluating.queue(tx, config)] = None
        return list(queued)


def _resolve_ids(tx: Transaction, gate: GateConfig) -> dict[str, object]:
    document = gate.document()
    for place, check in enumerate(document["checks"]):
        if not check.get("dataset"):
            continue
        try:
            check["dataset"] = datasets.get_dataset(tx, check["dataset"]).dataset_id
        except NotFoundError as error:
            raise ConfigError(error.message, fix=error.fix, field=f"gate.checks.{place}.dataset") from error
    return document


def _list_missing_evaluations(
    tx: Transaction, candidate: Candidate, checks: list[dict[str, Any]]
) -> list[EvaluateConfig]:
    """Return the missing evaluations, one for all metrics on the same rows of a model."""
    asked: dict[str, dict[str, Any]] = {}
    for check in checks:
        if not check.get("dataset"):
            continue
        fingerprint = datasets.get_dataset(tx, check["dataset"]).fingerprint
        metric = check.get("metric") or "ece"
        if not (sides := _list_sides(tx, candidate, check)):
            continue
        present = _find_evaluations(sides, check, fingerprint, metric)
        like = next((evaluation for evaluation in reversed(present) if evaluation), None)
        for (model, _), evaluation in zip(sides, present, strict=True):
            if evaluation is not None:
                continue
            rows = {"part": check["part"], "where": check["where"], "max_rows": check["max_rows"]}
            chosen: list[Any] = [metric]
            if like:
                alike = evaluation_pairs.build_matching_config(like, metric)
                chosen = alike.pop("metrics")
                rows = alike | {"rows_of": like.evaluation_id}
            body = {**model, **rows, "dataset": check["dataset"]}
            entry = asked.setdefault(repr(sorted(body.items(), key=str)), body | {"metrics": []})
            entry["metrics"] += [choice for choice in chosen if choice not in entry["metrics"]]
    return [EvaluateConfig.parse(body) for body in asked.values()]


def _find_evaluations(
    sides: list[tuple[dict[str, str], Any]], check: dict[str, object], fingerprint: str, metric: str
) -> list[Evaluation | None]:
    """Return the evaluation of each side, or None if there is none with settings matching the other
    side's.
    """
    other = gate_evidence.find_on_rows(sides[-1][1], check, fingerprint, metric)
    present: list[Evaluation | None] = []
    for _, candidates in sides[:-1]:
        evaluation = gate_evidence.find_on_rows(candidates, check, fingerprint, metric, other)
        if evaluation and other and evaluation_pairs.describe_metric_differences(evaluation, other, metric):
            evaluation = None
        present.append(evaluation)
    return [*present, other]


def _list_sides(
    tx: Transaction, candidate: Candidate, check: dict[str, object]
) -> list[tuple[dict[str, str], Any]]:
    """Return the models to evaluate, in the form of an evaluation config, each with its existing
    evaluations.
    """
    version, holder = candidate.version, candidate.holder
    own = ({"model": candidate.reference}, gate_evidence.evaluations_of(tx, version))
    if check["check"] == "not_worse_than" and holder is None:
        return []
    if check["check"] == "not_worse_than" and holder is not None:
        return [own, ({"model": format_version_reference(holder)}, gate_evidence.evaluations_of(tx, holder))]
    if check["check"] == "better_on_task":
        base = _find_base(tx, version)
        return [own, (base, gate_evidence.list_base_evaluations(tx, version))] if base else []
    return [own]


def _find_base(tx: Transaction, version: ModelVersion) -> dict[str, str]:
    """Return the base of a version, in the form of an evaluation config; empty if unknown.

    It is given as a run's base checkpoint, as the base of a run that continued another has no model name.
    """
    if version.run_id and runs.find_run(tx, version.run_id):
        return {"run": version.run_id, "checkpoint": "base"}
    return {"model": version.base_model} if version.base_model else {}


def _find_running_job(tx: Transaction, config: EvaluateConfig) -> str | None:
    """Return the id of an unfinished job that evaluates the same, or None."""
    wanted = config.document()
    fields = ["model", "run", "checkpoint", "dataset", "rows_of", *evaluation_pairs.SETTINGS]
    fields += [] if wanted["rows_of"] else ["part"]  # with rows_of, the part is that of those rows
    for job in evaluations.unfinished(tx):
        if job.status not in ALIVE or any(job.config.get(name) != wanted.get(name) for name in fields):
            continue
        if all(choice in job.config["metrics"] for choice in wanted["metrics"]):
            return job.job_id
    return None


def _find_gate_subject(db: Queryable, body: SetGate, *_: Person) -> ActivitySubject:
    model = model_versions.get_model(db, body.model)
    count = len(body.gate.checks)
    detail = f"{body.alias}: {count} {'check' if count == 1 else 'checks'}"
    return ActivitySubject("model", model.model_id, model.name, detail)


def _find_checked_gate_subject(db: Queryable, body: GateReference) -> ActivitySubject:
    version = model_versions.get_version(db, body.version)
    detail = f"version {version.version} at {body.alias}"
    return ActivitySubject("model", version.model_id, version.name, detail)
