"""Registered versions as the engine keeps and finds them: a new one gets its number and its place, and what a
command names as NAME@ALIAS is fixed to NAME@NUMBER before anything is queued.
"""

from __future__ import annotations

import os
from pathlib import Path

from engine.server.sync_jobs import remove_tree
from store.core.errors import ConfigError, DataError, NotFoundError, TunebenchError
from store.core.home import Home
from store.core.job_folder import JobDir, read_json, write_json
from store.core.model_schemas import ModelVersion, RegisteredFiles, VersionSeal, VersionSource
from store.core.schemas import Job
from store.db.database import Queryable, Transaction
from store.jobs import job_queue
from store.registry import model_versions
from store.registry.config import RegisterConfig
from store.registry.version_folders import (
    VersionDir,
    check_files,
    find_model_id,
    is_reference,
    open_sealed_folder,
)
from store.runs import runs
from store.training.train_config import TrainConfig


def keep_version(tx: Transaction, home: Home, job: Job, result: RegisteredFiles, at: float) -> None:
    """The new version: its folder gets the next number, then its row is written. Content that a version has
    already makes no other one; who registered it finds that version by the fingerprint."""
    config = RegisterConfig.parse(job["config"]["register"])
    model_id, made = find_model_id(config.name), JobDir(home.jobs / job["job_id"]).version
    if model_versions.find_fingerprint(tx, model_id, result["fingerprint"]):
        remove_tree(made)
        return
    person = job["config"]["created_by"]
    model_versions.ensure_model(tx, model_id, config.name, person, job_queue.to_utc(at))
    number = _move_into_registry(tx, home, job, config.name, result)
    model_versions.insert(
        tx,
        {
            "model_id": model_id,
            "name": config.name,
            "version": number,
            "source": _build_source(tx, config),
            "run_id": config.run or None,
            "base_model": result["base_model"],
            "adapter": result["adapter"],
            "folder": f"registry/{model_id}/{number}",
            "fingerprint": result["fingerprint"],
            "files": result["files"],
            "notes": config.notes,
            "created_by": person["person_id"],
            "created_by_name": person["name"],
            "created_at": job_queue.to_utc(at),
        },
    )


def _move_into_registry(tx: Transaction, home: Home, job: Job, name: str, result: RegisteredFiles) -> int:
    """Move the folder to its place, with its seal; its number. An engine that was killed between the move and
    the commit has moved it: the seal says so."""
    model_id, made = find_model_id(name), JobDir(home.jobs / job["job_id"]).version
    above = home.registry / model_id
    if not made.exists():
        return _find_moved_number(above, job)
    number = model_versions.get_last_number(tx, model_id) + 1
    while (seal := _read_seal(above, number)) and seal["job_id"] != job["job_id"]:
        number += 1  # another job's, whose row is about to come
    folder = VersionDir(above / str(number))
    above.mkdir(mode=0o700, parents=True, exist_ok=True)
    new: VersionSeal = {
        "reference": f"{name}@{number}",
        "job_id": job["job_id"],
        "files": result["files"],
    }
    write_json(folder.seal, new)
    remove_tree(folder.path)  # of an attempt before, whose row could not be written
    os.rename(made, folder.path)
    return number


def _read_seal(above: Path, number: int) -> VersionSeal | None:
    seal: VersionSeal | None = read_json(VersionDir(above / str(number)).seal)
    return seal


def _find_moved_number(above: Path, job: Job) -> int:
    for path in above.glob("*.json"):
        seal = _read_seal(above, int(path.stem))
        if seal and seal["job_id"] == job["job_id"] and path.with_suffix("").is_dir():
            return int(path.stem)
    raise DataError("The files of the version are gone from the job's folder.", fix="Register it again.")


def _build_source(tx: Transaction, config: RegisterConfig) -> VersionSource:
    run = runs.find_run(tx, config.run)
    return {
        "kind": "run" if config.run else "folder",
        "run_id": config.run or None,
        "run_name": run["name"] if run else None,
        "checkpoint": config.checkpoint if config.run else None,
        "path": config.path or None,
    }


# -- references -------------------------------------------------------------------------------------


def format_reference(version: ModelVersion) -> str:
    """NAME@NUMBER."""
    return f"{version['name']}@{version['version']}"


def pin_version(db: Queryable, home: Home, model: str, field: str = "model") -> str:
    """The model's name, where it is NAME@ALIAS or NAME@NUMBER the fixed NAME@NUMBER, whose files are as they
    were registered. Raises ConfigError at `field`."""
    if not is_reference(model):
        return model
    try:
        reference = format_reference(model_versions.get_version(db, model))
        open_sealed_folder(home, reference)
    except TunebenchError as error:
        raise ConfigError(error.message, fix=error.fix, field=field) from error
    return reference


def read_training_config(home: Home, reference: str) -> TrainConfig:
    """How a fixed version was trained, which says what kind of model it is."""
    order = read_json(open_sealed_folder(home, reference).config)
    return TrainConfig.parse(order["config"])


def pin_whole_model(db: Queryable, home: Home, model: str, field: str = "model") -> str:
    """As `fixed`, for what needs a whole model that writes: to train on it. Raises ConfigError at `field`."""
    reference = pin_version(db, home, model, field)
    if reference == model and not is_reference(model):
        return model
    version = model_versions.get_version(db, reference)
    if version["adapter"]:
        raise ConfigError(
            f"{reference} is an adapter, and a run begins with a whole model.",
            fix=f"Take its base {version['base_model']}, or continue from the run that it came from.",
            field=field,
        )
    if read_training_config(home, reference).task == "classification":
        raise ConfigError(
            f"{reference} is a classifier, and a run begins with a model that writes or an encoder.",
            fix="Take the model that it was trained from.",
            field=field,
        )
    return reference


def check_whole_files(home: Home, version: ModelVersion) -> None:
    """Hash every file again, and hold it against what the store has. Raises ModelError that names it."""
    folder = home.path / version["folder"]
    if not folder.is_dir():
        raise NotFoundError(f"The folder of {format_reference(version)} is gone.", fix="Register it again.")
    check_files(folder, version["files"], format_reference(version), whole=True)
