"""Job specifications of exports, and the storage of their results."""

from __future__ import annotations

from pathlib import Path

from engine.server.job_specs import load_measured_dataset
from store.core.documents import parse_document
from store.core.errors import DataError
from store.core.export_schemas import ExportedVersion, ExportSpec, ModelExportResult, VerifySpec
from store.core.home import Home
from store.core.job_folder import JobDir, read_json
from store.core.model_schemas import ModelVersion
from store.core.schemas import Job
from store.core.version_folders import is_reference
from store.data import datasets
from store.db.database import Queryable, Transaction
from store.export import exports
from store.export.config import ModelVerify
from store.export.forms import OLLAMA_GGUF
from store.jobs.schemas import JobSpecDetails
from store.registry import version_facts
from store.registry.model_versions import get_version
from store.runs import runs


def specify_model_export(db: Queryable, job: Job) -> JobSpecDetails:
    """Return the model, by run or version, and the rows that model and export are compared on."""
    export = build_export_order(db, job.config["subject"], job.config["checkpoint"])
    dataset = datasets.get_dataset(db, job.config["dataset"])
    return {
        "export": export,
        "dataset": load_measured_dataset(db, dataset.dataset_id),
        "split": datasets.get_split_fields(dataset),
    }


def specify_model_verification(db: Queryable, job: Job) -> JobSpecDetails:
    """Return the same as `specify_model_export`, with the path and the manifests of the model's exports."""
    config = ModelVerify.parse(job.config)
    row = exports.get(db, config.export) if config.export else None
    verify: VerifySpec = {
        "path": row.folder if row else str(Path(config.path).expanduser()),
        "gguf": (row.gguf if row else None) or OLLAMA_GGUF,
        "manifests": exports.list_manifests(db, config.subject, config.checkpoint),
    }
    return {**specify_model_export(db, job), "verify": verify}


def build_export_order(db: Queryable, subject: str, checkpoint: str) -> ExportSpec:
    """Return the specification of an export's subject. Raises NotFoundError."""
    if not is_reference(subject):
        run = runs.get_run(db, subject)
        card = version_facts.build_run_card(db, run, checkpoint)
        return ExportSpec(run_id=run.run_id, run_name=run.name, version=None, card=card)
    version = get_version(db, subject)
    present = runs.find_run(db, version.run_id) if version.run_id else None  # None if it was deleted
    return ExportSpec(
        run_id=present.run_id if present else None,
        run_name=present.name if present else None,
        version=_build_exported_version(version),
        card=version_facts.card(db, subject),
    )


def _build_exported_version(version: ModelVersion) -> ExportedVersion:
    return ExportedVersion(
        model_id=version.model_id,
        name=version.name,
        version=version.version,
        run_id=version.run_id,
        folder=version.folder,
    )


def list_compared_datasets(tx: Transaction, job: Job) -> set[str]:
    """Return the ids of data sets used by the parity check."""
    return {job.config.get("dataset") or ""} - {""}


def store_model_export(tx: Transaction, home: Home, job: Job, result: ModelExportResult, at: float) -> None:
    """Store the export; its folder is already published. Raises DataError if the folder is missing."""
    if not (home.path / result.folder).is_dir():
        raise DataError(
            f"The export is missing from {home.path / result.folder}.", fix="Export the model again."
        )
    spec = parse_document(ExportSpec, read_json(JobDir(home.jobs / job.job_id).config)["export"])
    exports.insert(tx, job, spec, result, at)
