"""Job handlers of bias checks: specs for the worker, the data sets used, storing of results, and the check
after a run.
"""

from __future__ import annotations

from engine.server.registered_versions import format_reference
from store.bias import bias_checks
from store.bias.config import KIND, BiasConfig
from store.bias.run_switch import SWITCH
from store.bias.schemas import BiasResult
from store.core.home import Home
from store.core.model_schemas import ModelVersion
from store.core.schemas import Job
from store.core.version_folders import is_reference
from store.db.database import Queryable, Transaction
from store.evaluation import evaluations
from store.jobs import job_queue
from store.jobs.schemas import ComparedVersion, JobSpecDetails
from store.registry.model_versions import get_version
from store.runs import runs


def specify_bias_check(db: Queryable, job: Job) -> JobSpecDetails:
    """Return the files of registered models, the evaluations to group, and the classifier."""
    config = BiasConfig.parse(job.config)
    versions_by_name = {
        name: _describe_version(get_version(db, name))
        for name in (config.model, config.against)
        if is_reference(name)
    }
    names = {name for asked in config.groups for name in (asked.evaluation, asked.against) if name}
    present = [evaluations.get(db, name) for name in sorted(names)]
    judged: JobSpecDetails = {}
    if config.continuations:
        judged["classifier"] = bias_checks.resolve_classifier(db, config.continuations.classifier)
    return judged | {
        "compared_versions": versions_by_name,
        "evaluations": {
            evaluation.evaluation_id: {
                "evaluation_id": evaluation.evaluation_id,
                "name": evaluation.name,
                "fingerprint": evaluation.data_fingerprint,
            }
            for evaluation in present
        },
    }


def _describe_version(version: ModelVersion) -> ComparedVersion:
    return {
        "reference": format_reference(version),
        "folder": version.folder,
        "adapter": version.adapter,
        "base_model": version.base_model,
    }


def list_grouped_datasets(tx: Transaction, job: Job) -> set[str]:
    """Return ids of the data sets whose columns define groups; evaluations may have been deleted."""
    asked = {groups["evaluation"] for groups in job.config.get("groups", [])}
    sql = "SELECT DISTINCT dataset_id FROM evaluation WHERE list_contains(?, evaluation_id)"
    return set(tx.query(sql, [sorted(asked)])["dataset_id"].to_pylist())


def store_bias(tx: Transaction, home: Home, job: Job, result: BiasResult, at: float) -> None:
    """Store the result of a bias check, under the current names of its models."""
    config = BiasConfig.parse(job.config)
    if config.run:
        run = runs.get_run(tx, config.run)
        names = (run.name, run.model)
    elif config.model:
        names = (config.model, config.against)
    else:
        groups = result.details.groups[0]
        names = (groups.evaluation, groups.against or "")
    bias_checks.insert(tx, job, result, names, at)


def queue_check_of_run(tx: Transaction, run: Job, at: float) -> None:
    """Queue the check requested with a run, in the transaction that ends the run.

    It is therefore queued exactly once, even after a crash.
    """
    if not run.config.get(SWITCH.name):  # missing in older runs
        return
    checked = BiasConfig(run=run.job_id)
    job_queue.insert(
        tx,
        job_queue.NewJob(
            job_id=job_queue.create_id("job", at),
            kind=KIND,
            title=f"Bias check of {run.title}",
            config=checked.document(),
            at=at,
            by=run.created_by,
        ),
    )
