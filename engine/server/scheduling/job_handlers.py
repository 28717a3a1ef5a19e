"""What the engine does for each kind of job, by the names of `store.catalog.job_kinds`: what its worker is
told beside its config, and what its result brings into the store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.server.scheduling import (
    gather_orders,
    judged_requests,
    registered,
    results,
    watch_orders,
    watch_results,
    work_orders,
)
from store.config.data.recipe import OF_OTHERS
from store.contract.errors import NotFoundError
from store.contract.home import Home
from store.contract.jobdir import JobDir, write_json
from store.db.database import Queryable, Transaction
from store.documents.tables.job import Job
from store.documents.tables.job_order import OrderDetails
from store.queries import settings
from store.queries.data import datasets
from store.queries.runs import runs


def _nothing_more(db: Queryable, job: Job) -> OrderDetails:
    return {}


def _nothing_kept(tx: Transaction, home: Home, job: Job, result: Any, at: float) -> None:
    """The result stays in the row of its job."""


def _nothing_brought(db: Queryable, home: Home, job: Job) -> None:
    """All that the worker needs lies in the home folder already."""


def _nothing_read(tx: Transaction, job: Job) -> set[str]:
    return set()


def _beside_its_own(tx: Transaction, job: Job) -> set[str]:
    """Those that a run replays or is probed with; its own is held by the row of the run."""
    config = job["config"]
    return {config.get("replay_dataset") or "", *config.get("probe_datasets", ())} - {""}


def _read_by(tx: Transaction, job: Job) -> set[str]:
    """Those whose rows a cleaning or an export reads: its own, and those it mixes in."""
    config = job["config"]
    steps = config.get("recipe", {}).get("steps", [])
    named = {config["dataset"], *(step["dataset"] for step in steps if step["step"] in OF_OTHERS)}
    rows = datasets.list_datasets(tx)
    return {row["dataset_id"] for row in rows if {row["dataset_id"], row["name"]} & named}


def _bundled(tx: Transaction, job: Job) -> set[str]:
    """Those of the run that is bundled, while it is there."""
    try:
        return {runs.get_run(tx, job["config"]["run"])["dataset_id"]}
    except NotFoundError:
        return set()


def _rated_rows(tx: Transaction, job: Job) -> set[str]:
    """Those whose prompts are to be rated, and whose pairs are gold."""
    config = job["config"]["round"]
    return {config.get("dataset") or "", config.get("gold_dataset") or ""} - {""}


def _answered_rows(tx: Transaction, job: Job) -> set[str]:
    """Those on whose rows an export is held against its model."""
    return {job["config"].get("dataset") or ""} - {""}


def _grouped_rows(tx: Transaction, job: Job) -> set[str]:
    """Those by whose columns a bias check groups rows; an evaluation may be gone by now."""
    asked = {groups["evaluation"] for groups in job["config"].get("groups", [])}
    sql = "SELECT DISTINCT dataset_id FROM evaluation WHERE list_contains(?, evaluation_id)"
    return set(tx.query(sql, [sorted(asked)])["dataset_id"].to_pylist())


def _gathered_from(tx: Transaction, job: Job) -> set[str]:
    """Those that new rows are compared with, and those that they come from."""
    config = job["config"]
    return {config["dataset"], *(rows["dataset"] for rows in config["rows"] if rows["source"] == "dataset")}


@dataclass(frozen=True)
class JobHandler:
    """order: what config.json has beside what every order has. keep: stores a finished job's result; raises
    where that is not what docs/architecture.md says. bring: writes into its folder what only the store has.
    reads: ids of data sets that can't be deleted before the job is over, where nothing else keeps them.
    """

    order: Callable[[Queryable, Job], OrderDetails] = _nothing_more
    keep: Callable[[Transaction, Home, Job, Any, float], None] = _nothing_kept  # a result is as its kind's
    reads: Callable[[Transaction, Job], set[str]] = _nothing_read
    bring: Callable[[Queryable, Home, Job], None] = _nothing_brought


HANDLERS: dict[str, JobHandler] = {
    "train": JobHandler(work_orders.of_run, results.keep_verdict, _beside_its_own),
    "variant": JobHandler(work_orders.of_variant, results.keep_verdict),
    "evaluate": JobHandler(work_orders.of_evaluation, results.keep_evaluation),
    "bias": JobHandler(work_orders.of_bias, results.keep_bias, _grouped_rows),
    "judge": JobHandler(),
    "round": JobHandler(work_orders.of_round, results.keep_round, _rated_rows),
    "answer_prompts": JobHandler(),
    "import_round": JobHandler(keep=results.keep_imported_round),
    "interpolate": JobHandler(),
    "transfer": JobHandler(work_orders.of_matrix),
    "import": JobHandler(keep=results.keep_dataset),
    "profile": JobHandler(work_orders.of_data, results.keep_signals),
    "clean": JobHandler(work_orders.of_data, results.keep_version, _read_by),
    "export": JobHandler(work_orders.of_export, reads=_read_by),
    "register": JobHandler(keep=registered.keep_version),
    "model_export": JobHandler(work_orders.of_model_export, results.keep_model_export, _answered_rows),
    "model_verify": JobHandler(work_orders.of_model_verify, reads=_answered_rows),
    "bundle": JobHandler(work_orders.of_bundle, reads=_bundled),
    "open_bundle": JobHandler(keep=results.keep_opened_bundle),
    "reproduction": JobHandler(work_orders.of_reproduction),
    "convert": JobHandler(),
    "gather_rows": JobHandler(
        gather_orders.of_gather, results.keep_gathered, _gathered_from, gather_orders.bring_candidates
    ),
    "judge_requests": JobHandler(
        judged_requests.of_judging, judged_requests.keep_judging, bring=judged_requests.bring_answers
    ),
    "watch": JobHandler(watch_orders.of_watch, watch_results.keep_watch, bring=watch_orders.bring_requests),
}


def write_order(db: Queryable, home: Home, job: Job) -> JobDir:
    """Make the folder of a claimed job, if it has none yet, and write its order; raises OSError.

    Raises NotFoundError where a data set that it needs is gone.
    """
    folder = JobDir(home.jobs / job["job_id"])
    folder.path.mkdir(parents=True, exist_ok=True)
    HANDLERS[job["kind"]].bring(db, home, job)
    details = HANDLERS[job["kind"]].order(db, job)
    write_json(folder.config, work_orders.order(home, job, settings.networks(db), details))
    return folder


def keep(tx: Transaction, home: Home, job: Job, result: Any, at: float) -> None:
    """Store what the finished `job` made."""
    HANDLERS[job["kind"]].keep(tx, home, job, result, at)
