"""What a worker is told: `config.json` of a job's folder (`store.core.schemas.JobOrder`), which is
all that it knows of the world. Here is what each kind of job adds to what every order has.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from store.bias import bias_checks
from store.bias.config import BiasConfig
from store.core.export_schemas import ExportedVersion, ExportSpec, VerifySpec
from store.core.home import Home
from store.core.job_folder import JobDir
from store.core.model_schemas import ModelVersion
from store.core.rating_schemas import RoundSystem
from store.core.schemas import Job
from store.data import dataset_versions, datasets
from store.data.schemas import Dataset
from store.db.database import Queryable
from store.evaluation import evaluation_pairs, evaluations
from store.evaluation.config import CHECKPOINTS, Checkpoint
from store.evaluation.schemas import Evaluation
from store.export import exports
from store.export.config import ModelVerify
from store.export.forms import OLLAMA_GGUF
from store.jobs import job_queue, metric_points
from store.jobs.schemas import (
    AuxiliaryDataset,
    JobSpec,
    JobSpecDetails,
    LossCurve,
    NamedDataset,
    OrderDataset,
    RunSpec,
    RunWithCurves,
)
from store.rating.config import RoundConfig, RoundModel
from store.registry import version_facts as model_cards
from store.registry.model_versions import get_version, is_reference
from store.runs import runs
from store.runs.schemas import Run
from store.training.train_config import Split, get_split, get_split_fields

MAX_POINTS = 20_000  # of a loss by step, above which neighbours become one


def build_order(home: Home, job: Job, networks: list[str], details: JobSpecDetails) -> JobSpec:
    """What the worker of a claimed job is told."""
    return {
        "job_id": job["job_id"],
        "kind": job["kind"],
        "home": str(home.path),
        "device": job["device"] or "cpu",
        "attempt": job["attempt"],
        "resume": job["attempt"] > 1,
        "networks": networks,
        "config": job["config"],
        **details,
    }


def specify_run(db: Queryable, job: Job) -> JobSpecDetails:
    """Raises NotFoundError where the run's data set is gone."""
    run = runs.get_run(db, job["job_id"])
    config = job["config"]
    details: JobSpecDetails = {
        "run_id": job["job_id"],
        "dataset": _build_order_dataset(datasets.get_dataset(db, run["dataset_id"])),
        "split": get_split(config, Split().fields()),  # runs of before know fewer fields
    }
    if replayed := config.get("replay_dataset"):
        general = datasets.find_dataset(db, replayed)  # a resumed run has kept what it needs of it
        details["replay"] = build_named_dataset(general) if general else None
    if names := config.get("probe_datasets"):
        present = [datasets.find_dataset(db, name) for name in names]
        details["probes"] = [build_named_dataset(dataset) for dataset in present if dataset]
    if bundle := run["facts"].get("reproduces"):
        details["opened_by"] = bundle["opened_by"]
    return details


def specify_bundle(db: Queryable, job: Job) -> JobSpecDetails:
    """The run that is bundled, its rows with how they were made, and what else it read."""
    run = runs.get_run(db, job["config"]["run"])
    dataset = datasets.get_dataset(db, run["dataset_id"])
    parent = datasets.find_dataset(db, dataset["parent_id"] or "")
    config = run["config"]
    named_others = [("replay", config.get("replay_dataset") or "")]
    named_others += [("probe", name) for name in config.get("probe_datasets", ())]
    others: list[AuxiliaryDataset] = []
    for role, name in named_others:
        if other := datasets.find_dataset(db, name) if name else None:
            others.append(
                AuxiliaryDataset(role=cast(Any, role), name=other["name"], fingerprint=other["fingerprint"])
            )
    return {
        "run": _describe_run(db, run),
        "dataset": _load_measured_dataset(db, dataset["dataset_id"]),
        "split": get_split(config, get_split_fields(dataset)),
        "history": dataset_versions.read_card_facts(db, dataset["dataset_id"])["history"],
        "parent_fingerprint": parent["fingerprint"] if parent else None,
        "others": others,
    }


def specify_reproduction(db: Queryable, job: Job) -> JobSpecDetails:
    """The run that was launched from a bundle, now that it has ended; beside the original, where that is here
    too."""
    run = runs.get_run(db, job["config"]["run"])
    details: JobSpecDetails = {"run": _describe_run(db, run), "opened_by": job["config"]["bundle"]}
    source = run["facts"].get("reproduces")
    if source and (original := runs.find_run(db, source["run_id"])):
        details["compared"] = [_add_curves(db, original), _add_curves(db, run)]
    return details


def _add_curves(db: Queryable, run: Run) -> RunWithCurves:
    return {
        **_describe_run(db, run),
        "curves": {
            "train/loss": _read_curve(db, run, "train/loss"),
            "eval/loss": _read_curve(db, run, "eval/loss"),
        },
    }


def _read_curve(db: Queryable, run: Run, name: str) -> LossCurve:
    table = metric_points.curve(db, run["run_id"], name, buckets=MAX_POINTS)
    return {"steps": table["step"].to_pylist(), "values": table["value"].to_pylist()}


def _describe_run(db: Queryable, run: Run) -> RunSpec:
    return {
        "run_id": run["run_id"],
        "name": run["name"],
        "kind": job_queue.get_job(db, run["run_id"])["kind"],
        "model": run["model"],
        "created_at": run["created_at"].isoformat(),
        "config": run["config"],
        "facts": {**run["facts"]},
        "verdict": {**run["verdict"]} if run["verdict"] else None,
    }


def specify_variant(db: Queryable, job: Job) -> JobSpecDetails:
    """As of a run, with what it is mixed from."""
    facts = runs.get_run(db, job["job_id"])["facts"]
    return {**specify_run(db, job), "mixed_from": facts["mixed_from"], "alpha": facts["alpha"]}


def specify_round(db: Queryable, job: Job) -> JobSpecDetails:
    """Whose answers they are, which the config names by evaluation, or to the prompts of a file, or to
    requests; and the pairs that are gold."""
    config = RoundConfig.parse(job["config"]["round"])
    details: JobSpecDetails = {}
    if config.prompts_file or config.requests:
        details["systems"] = [_build_declared_system(db, model) for model in config.models]
    else:
        present = [evaluations.get(db, model.evaluation) for model in config.models]
        details["dataset"] = _load_measured_dataset(db, config.dataset)
        details["systems"] = [_build_system(db, evaluation) for evaluation in present]
        details["filters"] = [evaluation["config"].get("where") for evaluation in present]
    if len(config.models) == 2 and "dataset" in details:
        judgings = evaluation_pairs.of_pair(db, *(model.evaluation for model in config.models))
        details["judgings"] = [job["job_id"] for job in judgings if job["status"] == "finished"]
    if config.gold_dataset:
        details["gold"] = build_named_dataset(datasets.get_dataset(db, config.gold_dataset))
    return details


def _build_system(db: Queryable, evaluation: Evaluation) -> RoundSystem:
    run_id, checkpoint = evaluation["run_id"], evaluation["checkpoint"]
    name = evaluation["model"]
    if run_id and checkpoint != "base":
        name = _format_model_name(runs.get_run(db, run_id)["name"], checkpoint)
    return {
        "name": name,
        "evaluation_id": evaluation["evaluation_id"],
        "run_id": run_id if checkpoint != "base" else None,
        "model": evaluation["model"],
        "checkpoint": checkpoint,
    }


def _build_declared_system(db: Queryable, model: RoundModel) -> RoundSystem:
    """Of a model whose answers are to a file's prompts: what the round says of it, and of its run."""
    run = runs.get_run(db, model.run) if model.run else None
    name, of_run = model.model, run if model.checkpoint != "base" else None
    if run:
        name = _format_model_name(run["name"], model.checkpoint) if of_run else run["model"]
    return {
        "name": model.answers or name,
        "evaluation_id": None,
        "run_id": of_run["run_id"] if of_run else None,
        "model": run["model"] if run else model.model,
        "checkpoint": model.checkpoint if run or model.model else "",
    }


def _format_model_name(run: str, checkpoint: Checkpoint) -> str:
    return run if checkpoint == "tuned" else f"{run}, {CHECKPOINTS[checkpoint].removeprefix('the ')}"


def specify_evaluation(db: Queryable, job: Job) -> JobSpecDetails:
    """The data set with its own split, and with what was measured of it; the run that is evaluated is known
    by its folder."""
    dataset = datasets.get_dataset(db, job["config"]["dataset"])
    return {"dataset": _load_measured_dataset(db, dataset["dataset_id"]), "split": get_split({}, dataset)}


def specify_bias_check(db: Queryable, job: Job) -> JobSpecDetails:
    """Registered models by their files, the evaluations whose rows are grouped, and who judges
    continuations."""
    config = BiasConfig.parse(job["config"])
    versions_by_name = {
        name: get_version(db, name) for name in (config.model, config.against) if is_reference(name)
    }
    names = {name for asked in config.groups for name in (asked.evaluation, asked.against) if name}
    present = [evaluations.get(db, name) for name in sorted(names)]
    judged: JobSpecDetails = {}
    if config.continuations:
        judged["classifier"] = bias_checks.resolve_classifier(db, config.continuations.classifier)
    return judged | {
        "compared_versions": versions_by_name,
        "evaluations": {
            evaluation["evaluation_id"]: {
                "evaluation_id": evaluation["evaluation_id"],
                "name": evaluation["name"],
                "fingerprint": evaluation["data_fingerprint"],
            }
            for evaluation in present
        },
    }


def specify_data_job(db: Queryable, job: Job) -> JobSpecDetails:
    """The data with what was measured of it, for a profile and a cleaning."""
    return {**datasets.work_order(db, job["config"])}


def specify_data_export(db: Queryable, job: Job) -> JobSpecDetails:
    """The data, and what its card tells of the versions before."""
    return {**specify_data_job(db, job), **dataset_versions.read_card_facts(db, job["config"]["dataset"])}


def specify_model_export(db: Queryable, job: Job) -> JobSpecDetails:
    """Whose model it is, by run or version, and the rows that model and export both answer."""
    export = build_export_order(db, job["config"]["subject"], job["config"]["checkpoint"])
    dataset = datasets.get_dataset(db, job["config"]["dataset"])
    return {
        "export": export,
        "dataset": _load_measured_dataset(db, dataset["dataset_id"]),
        "split": get_split({}, dataset),
    }


def specify_model_verification(db: Queryable, job: Job) -> JobSpecDetails:
    """The same, where the files lie, and the manifests of what was exported of the same model."""
    config = ModelVerify.parse(job["config"])
    row = exports.get(db, config.export) if config.export else None
    verify: VerifySpec = {
        "path": row["folder"] if row else str(Path(config.path).expanduser()),
        "gguf": (row["gguf"] if row else None) or OLLAMA_GGUF,
        "manifests": exports.list_manifests(db, config.subject, config.checkpoint),
    }
    return {**specify_model_export(db, job), "verify": verify}


def build_export_order(db: Queryable, subject: str, checkpoint: str) -> ExportSpec:
    """What is known of the subject of an export. Raises NotFoundError."""
    if not is_reference(subject):
        run = runs.get_run(db, subject)
        card = model_cards.build_run_card(db, run, checkpoint)
        return {"run_id": run["run_id"], "run_name": run["name"], "version": None, "card": card}
    version = get_version(db, subject)
    present = runs.find_run(db, version["run_id"]) if version["run_id"] else None  # it may be deleted
    return {
        "run_id": present["run_id"] if present else None,
        "run_name": present["name"] if present else None,
        "version": _build_exported_version(version),
        "card": model_cards.card(db, subject),
    }


def _build_exported_version(version: ModelVersion) -> ExportedVersion:
    return {
        "model_id": version["model_id"],
        "name": version["name"],
        "version": version["version"],
        "run_id": version["run_id"],
        "folder": version["folder"],
    }


def build_named_dataset(dataset: Dataset) -> NamedDataset:
    """The data set as a worker has to know it."""
    return {
        "dataset_id": dataset["dataset_id"],
        "name": dataset["name"],
        "kind": dataset["kind"],
        "fingerprint": dataset["fingerprint"],
    }


def _build_order_dataset(dataset: Dataset) -> OrderDataset:
    return {**build_named_dataset(dataset)}


def _load_measured_dataset(db: Queryable, dataset: str) -> OrderDataset:
    """With what was measured of it, which a filter may ask for."""
    return datasets.work_order(db, {"dataset": dataset})["dataset"]


def archive_attempt(folder: JobDir, attempt: int) -> None:
    """Before a resume: what the ended attempt said of itself must not be taken for the next one's."""
    for path in (folder.result, folder.worker):
        if path.exists():
            os.replace(path, path.with_name(f"{path.stem}.attempt-{attempt}{path.suffix}"))
