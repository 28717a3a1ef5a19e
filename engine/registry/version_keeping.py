"""Store the result of the job `register`: assign the version's number and move its files to their final
place.
"""

from __future__ import annotations

import os
from pathlib import Path

from engine.server.registered_versions import format_reference
from engine.server.sync_jobs import remove_tree
from store.core.documents import parse_document, parse_optional_document
from store.core.errors import DataError, NotFoundError
from store.core.home import Home
from store.core.job_folder import JobDir, read_json, write_json
from store.core.model_schemas import ModelVersion, RegisteredFiles, VersionSeal, VersionSource
from store.core.schemas import Job, Person
from store.core.version_folders import VersionDir, check_files, find_model_id
from store.db.database import Transaction
from store.jobs import job_queue
from store.registry import model_versions
from store.registry.config import RegisterConfig
from store.runs import runs


def store_version(tx: Transaction, home: Home, job: Job, result: RegisteredFiles, at: float) -> None:
    """Store the new version: move its folder to the next number, then insert its row.

    Content equal to an existing version creates no new one; it is found by the fingerprint.
    """
    config = RegisterConfig.parse(job.config["register"])
    model_id, made = find_model_id(config.name), JobDir(home.jobs / job.job_id).version
    if model_versions.find_fingerprint(tx, model_id, result["fingerprint"]):
        remove_tree(made)
        return
    person = parse_document(Person, job.config["created_by"])
    model_versions.ensure_model(tx, model_id, config.name, person, job_queue.to_utc(at))
    number = _move_into_registry(tx, home, job, config.name, result)
    model_versions.insert(
        tx,
        ModelVersion(
            model_id=model_id,
            name=config.name,
            version=number,
            source=_build_source(tx, config),
            run_id=config.run or None,
            base_model=result["base_model"],
            adapter=result["adapter"],
            folder=f"registry/{model_id}/{number}",
            fingerprint=result["fingerprint"],
            files=result["files"],
            notes=config.notes,
            created_by=person.person_id,
            created_by_name=person.name,
            created_at=job_queue.to_utc(at),
        ),
    )


def _move_into_registry(tx: Transaction, home: Home, job: Job, name: str, result: RegisteredFiles) -> int:
    """Move the folder to its place, with its seal; return its number.

    If an engine was killed between the move and the commit, the folder was already moved and its seal says
    so.
    """
    model_id, made = find_model_id(name), JobDir(home.jobs / job.job_id).version
    above = home.registry / model_id
    if not made.exists():
        return _find_moved_number(above, job)
    number = model_versions.get_last_number(tx, model_id) + 1
    while (seal := _read_seal(above, number)) and seal["job_id"] != job.job_id:
        number += 1  # another job's, whose row will follow
    folder = VersionDir(above / str(number))
    above.mkdir(mode=0o700, parents=True, exist_ok=True)
    new: VersionSeal = {
        "reference": f"{name}@{number}",
        "job_id": job.job_id,
        "files": result["files"],
    }
    write_json(folder.seal, new)
    remove_tree(folder.path)  # from an earlier attempt whose row could not be written
    os.rename(made, folder.path)
    return number


def _read_seal(above: Path, number: int) -> VersionSeal | None:
    seal = parse_optional_document(VersionSeal, read_json(VersionDir(above / str(number)).seal))
    return seal


def _find_moved_number(above: Path, job: Job) -> int:
    for path in above.glob("*.json"):
        seal = _read_seal(above, int(path.stem))
        if seal and seal["job_id"] == job.job_id and path.with_suffix("").is_dir():
            return int(path.stem)
    raise DataError(
        "The version's files no longer exist in the job's folder.", fix="Register the version again."
    )


def _build_source(tx: Transaction, config: RegisterConfig) -> VersionSource:
    run = runs.find_run(tx, config.run)
    return VersionSource(
        kind="run" if config.run else "folder",
        run_id=config.run or None,
        run_name=run.name if run else None,
        checkpoint=config.checkpoint if config.run else None,
        path=config.path or None,
    )


def check_whole_files(home: Home, version: ModelVersion) -> None:
    """Hash every file again and compare with the store. Raises ModelError that names a differing file."""
    folder = home.path / version.folder
    if not folder.is_dir():
        raise NotFoundError(
            f"The folder of {format_reference(version)} no longer exists.", fix="Register the version again."
        )
    check_files(folder, version.files, format_reference(version), whole=True)
