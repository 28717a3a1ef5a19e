"""Handlers of the kinds of job in `store.core.job_kinds`: details of their specifications, storage of
results.
"""

from __future__ import annotations

from engine.server import job_results, job_specs
from engine.server.features import load_engine_features
from engine.server.job_handling import JobHandler, JobHandlers
from store.core.home import Home
from store.core.schemas import Job
from store.data import datasets
from store.data.cleaning import OF_OTHERS
from store.db.database import Transaction
from store.runs.schemas import RunResult


def _list_extra_datasets(tx: Transaction, job: Job) -> set[str]:
    """Return the data sets that a run replays or uses as probes; its own is protected by the run's row."""
    config = job.config
    return {config.get("replay_dataset") or "", *config.get("probe_datasets", ())} - {""}


def _list_source_datasets(tx: Transaction, job: Job) -> set[str]:
    """Return the data sets whose rows a cleaning or an export reads: its own, and those it mixes in."""
    config = job.config
    steps = config.get("recipe", {}).get("steps", [])
    named = {config["dataset"], *(step["dataset"] for step in steps if step["step"] in OF_OTHERS)}
    rows = datasets.list_datasets(tx)
    return {row.dataset_id for row in rows if {row.dataset_id, row.name} & named}


def _store_run(tx: Transaction, home: Home, job: Job, result: RunResult, at: float) -> None:
    """Store the verdict of a run, and queue what features request at the end of a run."""
    job_results.store_verdict(tx, home, job, result, at)
    for feature in load_engine_features().values():
        feature.store_run(tx, job, at)


HANDLERS = JobHandlers(
    {
        **{kind: handler for f in load_engine_features().values() for kind, handler in f.handlers.items()},
        "train": JobHandler(job_specs.specify_run, _store_run, _list_extra_datasets),
        "variant": JobHandler(job_specs.specify_variant, _store_run),
        "evaluate": JobHandler(job_specs.specify_evaluation, job_results.store_evaluation),
        "judge": JobHandler(),
        "interpolate": JobHandler(),
        "import": JobHandler(store_result=job_results.store_dataset),
        "profile": JobHandler(job_specs.specify_data_job, job_results.store_signals),
        "clean": JobHandler(job_specs.specify_data_job, job_results.store_version, _list_source_datasets),
        "export": JobHandler(job_specs.specify_data_export, list_datasets=_list_source_datasets),
        "convert": JobHandler(),
    }
)
write_spec, store_result = HANDLERS.write_spec, HANDLERS.store_result
