"""Job handlers of rating rounds: specs for the worker, storing of results, and the runs and data sets they
need.
"""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq

from engine.server.job_specs import build_named_dataset, load_measured_dataset
from store.core.documents import parse_document
from store.core.errors import StateError
from store.core.home import Home
from store.core.job_folder import JobDir
from store.core.rating_schemas import Round, RoundResult, RoundState, RoundSystem
from store.core.schemas import Job, Person
from store.data import datasets
from store.db.database import Queryable, Transaction
from store.evaluation import evaluation_pairs, evaluations
from store.evaluation.config import CHECKPOINTS, Checkpoint
from store.evaluation.schemas import Evaluation
from store.jobs import job_queue
from store.jobs.schemas import JobSpecDetails
from store.rating import ratings, rounds, workload
from store.rating.config import RoundConfig, RoundModel
from store.runs import runs


def specify_round(db: Queryable, job: Job) -> JobSpecDetails:
    """Return the round's systems, from evaluations, a file's prompts or requests, and its gold data set."""
    config = RoundConfig.parse(job.config["round"])
    details: JobSpecDetails = {}
    if config.prompts_file or config.requests:
        details["systems"] = [_build_declared_system(db, model) for model in config.models]
    else:
        present = [evaluations.get(db, model.evaluation) for model in config.models]
        details["dataset"] = load_measured_dataset(db, config.dataset)
        details["systems"] = [_build_system(db, evaluation) for evaluation in present]
        details["filters"] = [evaluation.config.get("where") for evaluation in present]
    if len(config.models) == 2 and "dataset" in details:
        judgings = evaluation_pairs.of_pair(db, *(model.evaluation for model in config.models))
        details["judgings"] = [job.job_id for job in judgings if job.status == "finished"]
    if config.gold_dataset:
        details["gold"] = build_named_dataset(datasets.get_dataset(db, config.gold_dataset))
    return details


def _build_system(db: Queryable, evaluation: Evaluation) -> RoundSystem:
    run_id, checkpoint = evaluation.run_id, evaluation.checkpoint
    name = evaluation.model
    if run_id and checkpoint != "base":
        name = _format_model_name(runs.get_run(db, run_id).name, checkpoint)
    return RoundSystem(
        name=name,
        evaluation_id=evaluation.evaluation_id,
        run_id=run_id if checkpoint != "base" else None,
        model=evaluation.model,
        checkpoint=checkpoint,
    )


def _build_declared_system(db: Queryable, model: RoundModel) -> RoundSystem:
    """Build the system of a model that answers a file's prompts, from the round's config and the
    model's run.
    """
    run = runs.get_run(db, model.run) if model.run else None
    name, of_run = model.model, run if model.checkpoint != "base" else None
    if run:
        name = _format_model_name(run.name, model.checkpoint) if of_run else run.model
    return RoundSystem(
        name=model.answers or name,
        evaluation_id=None,
        run_id=of_run.run_id if of_run else None,
        model=run.model if run else model.model,
        checkpoint=model.checkpoint if run or model.model else "",
    )


def _format_model_name(run: str, checkpoint: Checkpoint) -> str:
    return run if checkpoint == "tuned" else f"{run}, {CHECKPOINTS[checkpoint].removeprefix('the ')}"


# -- stored results ---------------------------------------------------------------------------------


def store_round(tx: Transaction, home: Home, job: Job, result: RoundResult, at: float) -> None:
    """Store the round as open, with its items, assigned raters, and the requests behind its items."""
    row = _build_round(job, result, "open", at)
    rounds.insert(tx, row, _read_items(home, job))
    raters = RoundConfig.parse(row.config).raters
    workload.set_assignments(tx, row.round_id, raters, row.created_by_name, row.created_at)
    if job.config["round"].get("requests"):
        links = JobDir(home.jobs / job.job_id).held / rounds.LINKS_FILE
        rounds.insert_requests(tx, job.job_id, pq.read_table(links))


def store_imported_round(tx: Transaction, home: Home, job: Job, result: RoundResult, at: float) -> None:
    """Store an imported round, which is closed, with its ratings."""
    row = _build_round(job, result, "closed", at)
    rounds.insert(tx, row, _read_items(home, job))
    votes = pq.read_table(home.jobs / job.job_id / "votes.parquet")
    ratings.insert_votes(tx, row.round_id, votes, row.created_at)


def _read_items(home: Home, job: Job) -> pa.Table:
    items = pq.read_table(home.jobs / job.job_id / "items.parquet")
    if "better" not in items.column_names:
        return items
    better = items["better"].to_pylist()  # written by a worker of the previous version
    sides = [None if each is None else json.dumps({"choice": "AB"[each]}) for each in better]
    kinds = [None if each is None else "gold" for each in better]
    items = items.drop_columns(["better"])
    items = items.append_column("check", pa.array(kinds, pa.string()))
    return items.append_column("expected", pa.array(sides, pa.string()))


def _build_round(job: Job, result: RoundResult, state: RoundState, at: float) -> Round:
    config, person = job.config["round"], parse_document(Person, job.config["created_by"])
    elsewhere = result.get("elsewhere")
    if elsewhere:
        config = config | {"criteria": elsewhere["criteria"], "labels": elsewhere["labels"]}
    return Round(
        round_id=job.job_id,
        name=config["name"],
        notes=config.get("notes", ""),
        protocol=elsewhere["protocol"] if elsewhere else config["protocol"],
        config=config,
        systems=result["systems"],
        state=state,
        dataset_id=result["dataset_id"],
        item_count=result["details"].drawn,
        details=result["details"],
        created_by=person.person_id,
        created_by_name=person.name,
        created_at=job_queue.to_utc(at),
        closed_at=job_queue.to_utc(at) if elsewhere else None,
        closed_by_name=person.name if elsewhere else None,
    )


# -- dependencies that can't be deleted -------------------------------------------------------------


def list_rated_datasets(tx: Transaction, job: Job) -> set[str]:
    """Return the ids of the data sets with the round's prompts and gold pairs."""
    config = job.config["round"]
    return {config.get("dataset") or "", config.get("gold_dataset") or ""} - {""}


def check_not_rated(tx: Transaction, home: Home, job: Job) -> None:
    """Raise StateError if a round that is being created needs this run or evaluation."""
    for field in ("run", "evaluation"):
        if titles := rounds.list_dependent_titles(tx, field, job.job_id):
            raise StateError(
                f"{job.title} is needed by “{titles[0]}”, which is still being created.",
                fix="Wait until the round is ready, or cancel it first.",
            )
