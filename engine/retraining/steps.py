"""Steps of a retraining, one per state: queue the work, wait for it, record the result, and notify the
webhook when a person has to act.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

from engine.registry.gate_commands import GateCommands
from engine.registry.version_commands import RegisterCommands
from engine.retraining import gate
from engine.retraining.initiation import check_actor, find_actor
from engine.server.job_results import build_dataset_id
from engine.server.job_submission import JobSubmission
from store.core.documents import parse_document
from store.core.errors import NotFoundError, StateError
from store.core.job_kinds import ALIVE
from store.core.schemas import ErrorDocument, Job
from store.data import datasets
from store.data.config import NAME_LENGTH, CleanConfig, find_free_name
from store.db.database import Database, Queryable, Transaction
from store.jobs import job_queue
from store.monitoring import monitor_alerts
from store.rating import rounds
from store.registry import gate_candidates, model_versions
from store.registry.config import RegisterConfig
from store.registry.gate_candidates import Candidate, format_version_reference
from store.registry.schemas import CheckAnswer
from store.retraining import improvements
from store.retraining import text as improvement_text
from store.retraining.config import GatherConfig, RoundRowSource
from store.retraining.schemas import (
    GatherResult,
    Improvement,
    ImprovementFacts,
    ImprovementState,
    TooFewRowsResult,
)
from store.runs import runs
from store.runs.schemas import RunFacts
from store.training.train_config import TrainConfig


def notify_webhook(
    tx: Transaction,
    improvement: Improvement,
    state: ImprovementState,
    reason: str,
    at: float,
    *,
    answer: CheckAnswer | None = None,
) -> None:
    """Queue a webhook message that the improvement waits for a person or has failed.

    `answer` is that of its checks, once it is evaluated.
    """
    if not monitor_alerts.webhook(tx):
        return
    message = {
        "event": "improvement",
        "improvement_id": improvement.improvement_id,
        "improvement": improvement.name,
        "model": model_versions.get_model(tx, improvement.model_id).name,
        "alias": improvement.alias,
        "title": improvement_text.STATES[state].title,
        "answer": answer,
        "reason": reason,
        "page": f"/models?model={improvement.model_id}&tab=improve",
    }
    body = json.dumps(message, ensure_ascii=False)
    monitor_alerts.queue_messages(tx, job_queue.create_id("message", at), None, body, job_queue.to_utc(at))


class StepContext(NamedTuple):
    """Services that the steps use."""

    database: Database
    launching: JobSubmission
    gates: GateCommands
    registering: RegisterCommands


class JobFailed(Exception):
    """A job of the improvement ended without success, with its error."""

    def __init__(self, error: ErrorDocument) -> None:
        super().__init__(error["message"])
        self.error = error


StepFunction = Callable[[StepContext, str, float], None]
StepAction = Callable[[StepContext, Transaction, Improvement, float], None]


def _run_in_state(state: ImprovementState, act: StepAction) -> StepFunction:
    """Return a step that runs in one transaction, if the improvement is still in that state."""

    def link(links: StepContext, improvement_id: str, at: float) -> None:
        with links.database.transaction() as tx:
            improvement = improvements.find(tx, improvement_id)
            if improvement and improvement.state == state:
                act(links, tx, improvement, at)

    return link


def _advance_state(tx: Transaction, improvement: Improvement, state: ImprovementState, at: float) -> None:
    improvements.set_state(tx, improvement.improvement_id, state, job_queue.to_utc(at))


def check_job_finished(db: Queryable, job_id: str, what: str) -> Job | None:
    """Return the job once it has finished, or None while it is in progress.

    Raises JobFailed if it ended otherwise, and StateError if it was deleted.
    """
    try:
        job = job_queue.get_job(db, job_id)
    except NotFoundError:
        raise StateError(f"{what} was deleted.", fix="Resume to create it again.") from None
    if job.status in ALIVE:
        return None
    if job.status == "finished":
        return job
    error = job.error or {"error": "StateError", "message": f"{job.title} was {job.status}."}
    raise JobFailed({"error": error["error"], "message": error["message"], "fix": error.get("fix", "")})


# -- new rows ---------------------------------------------------------------------------------------


def _label(links: StepContext, tx: Transaction, improvement: Improvement, at: float) -> None:
    """Wait until every round is closed."""
    for source in improvement.config.rows:
        if isinstance(source, RoundRowSource) and rounds.get(tx, source.round).state == "open":
            return
    _advance_state(tx, improvement, "gathering", at)


def _gather(links: StepContext, tx: Transaction, improvement: Improvement, at: float) -> None:
    facts, config = improvement.facts, improvement.config
    if "gather_job" not in facts:
        if _is_another_gathering(tx, improvement):
            return
        holder = gate.find_version_in_use(tx, improvement.model_id, improvement.alias)
        model = model_versions.get_model(tx, improvement.model_id).name
        day = f"{improvement.begun_at:%d %b %Y}"
        name = find_free_name(
            _truncate_name(model, f", new rows of {day}", NAME_LENGTH), links.launching.taken_names(tx)
        )
        by = gate.find_training_run(tx, holder, config.run)
        gather = GatherConfig(
            improvement=improvement.improvement_id,
            name=name,
            dataset=facts["old_dataset_id"],
            run=config.run,
            rows=config.rows,
            held_out=config.held_out,
            **by,
        )
        document = gather.model_dump(mode="json")
        datasets.work_order(tx, document)  # raises NotFoundError if a data set was deleted
        job_id = links.launching.queue_job(tx, "gather_rows", f"Gather {name}", document)
        improvements.set_facts(
            tx,
            improvement.improvement_id,
            gather_job=job_id,
            gathered_beside=format_version_reference(holder) if holder else "",
            compared_runs=gate.list_compared_runs(tx, by, config.run),
        )
        return
    job = check_job_finished(tx, facts["gather_job"], "The gathering of new rows")
    if job is not None:
        assert job.result is not None  # it has finished
        if "too_few" in job.result:
            _wait_for_rows(tx, improvement, parse_document(TooFewRowsResult, job.result), at)
            return
        gathered = parse_document(GatherResult, job.result)
        rows_id = build_dataset_id(job.job_id)
        improvements.set_facts(
            tx,
            improvement.improvement_id,
            rows_dataset_id=rows_id,
            rows=gathered["rows"],
            disputed=gathered.get("disputed", []),
        )
        _advance_state(tx, improvement, "joining", at)


def _wait_for_rows(tx: Transaction, improvement: Improvement, gathered: TooFewRowsResult, at: float) -> None:
    """Wait until someone resumes it once there is more feedback."""
    improvements.set_facts(tx, improvement.improvement_id, rows=gathered["rows"])
    trouble: ErrorDocument = {
        "error": "TooFewRows",
        "message": gathered["too_few"],
        "fix": gathered["fix"],
    }
    improvements.set_state(
        tx,
        improvement.improvement_id,
        "waiting",
        job_queue.to_utc(at),
        failed_at="gathering",
        trouble=trouble,
    )
    notify_webhook(tx, improvement, "waiting", trouble["message"], at)


def _is_another_gathering(db: Queryable, improvement: Improvement) -> bool:
    """Return whether another improvement of the model, for another alias, is gathering.

    How often rows will have been held out is known only once it has chosen its own.
    """
    return any(
        other.model_id == improvement.model_id and "gather_job" in other.facts
        for other in improvements.in_states(db, ["gathering"])
        if other.improvement_id != improvement.improvement_id
    )


def _join(links: StepContext, tx: Transaction, improvement: Improvement, at: float) -> None:
    """Create a version of the run's data with the new rows, in which every row keeps its part."""
    facts = improvement.facts
    if "join_job" not in facts:
        old = datasets.get_dataset(tx, facts["old_dataset_id"])
        new = datasets.get_dataset(tx, facts["rows_dataset_id"])
        step = {"step": "add_rows", "dataset": new.dataset_id, "called": new.name}
        name = links.launching.next_name(tx, old.name)
        asked = CleanConfig.parse(
            {
                "dataset": old.dataset_id,
                "name": name,
                "recipe": {"steps": [{**step, "run": improvement.config.run}]},
            }
        )
        title = f"Add {new.name} to {old.name}"
        job_id = links.launching.queue_job(tx, "clean", title, asked.model_dump(exclude_none=True))
        improvements.set_facts(tx, improvement.improvement_id, join_job=job_id)
        return
    job = check_job_finished(tx, facts["join_job"], "The joining of old and new rows")
    if job is not None:
        improvements.set_facts(tx, improvement.improvement_id, dataset_id=build_dataset_id(job.job_id))
        _advance_state(tx, improvement, "training", at)


def _truncate_name(name: str, ending: str, most: int) -> str:
    return f"{name[: most - len(ending)].rstrip()}{ending}"


# -- the run and its version ------------------------------------------------------------------------


def _train(links: StepContext, improvement_id: str, at: float) -> None:
    """Launch the run once, then wait. Previewing a launch takes seconds, so it runs outside a transaction."""
    improvement = improvements.find(links.database, improvement_id)
    if improvement is None or improvement.state != "training":
        return
    run_id = improvement.facts.get("run_id")
    if run_id is None:
        _launch(links, improvement)
        return
    if check_job_finished(links.database, run_id, "The run") is not None:
        _run_in_state(
            "training", lambda _, tx, present, now: _advance_state(tx, present, "registering", now)
        )(links, improvement_id, at)


def _launch(links: StepContext, improvement: Improvement) -> None:
    def add_facts(tx: Transaction, run_id: str) -> RunFacts:
        present = improvements.find(tx, improvement.improvement_id)
        if present is None or present.state != "training" or "run_id" in present.facts:
            raise StateError("The improvement was stopped before its run was launched.")
        improvements.set_facts(tx, improvement.improvement_id, run_id=run_id)
        return {}

    links.launching.launch(_build_training_config(links.database, improvement), add_facts)


def _build_training_config(db: Database, improvement: Improvement) -> TrainConfig:
    """Return the config of the run, for the new version of its data.

    The new version has the rows that the run sampled, so none are sampled again.
    """
    run = runs.get_run(db, improvement.config.run)
    dataset = datasets.get_dataset(db, improvement.facts["dataset_id"])
    stem = run.name.partition(", improved ")[0]
    ending = f", improved {improvement.begun_at:%d %b %Y}"
    taken = set(db.query("SELECT name FROM run")["name"].to_pylist())
    name = find_free_name(_truncate_name(stem, ending, NAME_LENGTH), taken)
    split = dict.fromkeys(("split_seed", "validation_size", "test_size", "split_by", "split_column"))
    changes = {
        "name": name,
        "notes": f"Launched by the improvement {improvement.name}.",
        "dataset": dataset.name,
        "parent": run.run_id,
        "max_train_rows": None,
    }
    return TrainConfig.parse({**run.config, **split, **changes})


def _register(links: StepContext, tx: Transaction, improvement: Improvement, at: float) -> None:
    facts = improvement.facts
    model = model_versions.get_model(tx, improvement.model_id)
    if "register_job" not in facts:
        config = RegisterConfig(
            name=model.name, run=facts["run_id"], notes=f"By the improvement {improvement.name}."
        )
        person = check_actor(tx, *find_actor(improvement))
        job_id = links.registering.queue(tx, config, person)
        improvements.set_facts(tx, improvement.improvement_id, register_job=job_id)
        return
    job = check_job_finished(tx, facts["register_job"], "The registering of the run")
    if job is None:
        return
    assert job.result is not None  # it has finished
    version = model_versions.find_fingerprint(tx, model.model_id, job.result["fingerprint"])
    if version is None:
        raise StateError(f"The new version of {model.name} was deleted.", fix="Register the run again.")
    if version.version == model_versions.alias_standing(tx, model.model_id, improvement.alias):
        raise StateError(
            f"The run ended with the same weights as {format_version_reference(version)}, which is "
            f"{improvement.alias}."
        )
    improvements.set_facts(tx, improvement.improvement_id, version=format_version_reference(version))
    _advance_state(tx, improvement, "measuring", at)


# -- evaluation and decision -----------------------------------------------------------------------


def _measure(links: StepContext, tx: Transaction, improvement: Improvement, at: float) -> None:
    """Evaluate both versions on old and new rows, compared with the version that has the alias now."""
    candidate = gate_candidates.get_candidate(tx, improvement.facts["version"], improvement.alias)
    if _is_promoted(tx, improvement, candidate, at):
        return
    facts = improvement.facts
    if (holder := describe_current_version(candidate)) != facts.get("holder"):
        changed: ImprovementFacts = {"holder": holder}
        if earlier := facts.get("holder"):
            changed["holder_was"] = earlier
        improvements.drop_facts(tx, improvement.improvement_id, "evaluation_jobs", "holder_was")
        facts = improvements.set_facts(tx, improvement.improvement_id, **changed)
    config = gate.build_gate(tx, improvement)
    if "evaluation_jobs" not in facts:
        queued = links.gates.gather_for(tx, candidate, config)
        own = [job_id for job_id in queued if job_id in tx.made["job"]]
        own = [*facts.get("own_evaluation_jobs", []), *own]
        improvements.set_facts(
            tx, improvement.improvement_id, evaluation_jobs=queued, own_evaluation_jobs=own
        )
        return
    ended = [check_job_finished(tx, job_id, "An evaluation") for job_id in facts["evaluation_jobs"]]
    if all(job is not None for job in ended):
        report = gate.judge_candidate(tx, improvement, candidate, config)
        improvements.set_facts(tx, improvement.improvement_id, gate=report)
        _advance_state(tx, improvement, "deciding", at)
        notify_webhook(tx, improvement, "deciding", report.sentence, at, answer=report.answer)


def describe_current_version(candidate: Candidate) -> str:
    """Return the version that has the alias as NAME@3, or an empty string."""
    return format_version_reference(candidate.holder) if candidate.holder else ""


def _is_promoted(tx: Transaction, improvement: Improvement, candidate: Candidate, at: float) -> bool:
    """Return whether the version already has the alias; if so, the improvement ends as promoted."""
    version = candidate.version
    if model_versions.alias_standing(tx, version.model_id, improvement.alias) != version.version:
        return False
    moved = next(iter(model_versions.alias_moves(tx, version.model_id, improvement.alias, limit=1)), None)
    by, why = (moved.moved_by_name, moved.reason) if moved else (None, "")
    report = improvement.facts.get("gate")
    if improvement.state != "deciding" or report is None:
        why = f"{why} (promoted before it was measured)"
    elif report.answer != "passed":
        why = f"{why} (promoted by override: {report.sentence})"
    improvements.end(tx, improvement.improvement_id, "promoted", job_queue.to_utc(at), by, why.strip())
    return True


def _decide(links: StepContext, tx: Transaction, improvement: Improvement, at: float) -> None:
    """Wait for a person's decision; if the alias moves meanwhile, evaluate against its new version."""
    candidate = gate_candidates.get_candidate(tx, improvement.facts["version"], improvement.alias)
    if not _is_promoted(tx, improvement, candidate, at) and (
        describe_current_version(candidate) != improvement.facts.get("holder")
    ):
        _advance_state(tx, improvement, "measuring", at)


STEPS_BY_STATE: dict[ImprovementState, StepFunction] = {
    "labelling": _run_in_state("labelling", _label),
    "gathering": _run_in_state("gathering", _gather),
    "joining": _run_in_state("joining", _join),
    "training": _train,
    "registering": _run_in_state("registering", _register),
    "measuring": _run_in_state("measuring", _measure),
    "deciding": _run_in_state("deciding", _decide),
}
