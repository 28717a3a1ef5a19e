"""Job `register`: create the files of a new version of a registered model, from a run or a folder.

Everything is copied, never linked, including how the model was trained and its run's split, and gets
checksums. The files are created in the job's folder; the engine assigns their number and place
(`engine.registry.version_keeping`), so that numbers have no gaps or races.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from engine.evaluation import evaluated_model
from engine.evaluation.evaluated_model import LOADING_MESSAGE
from engine.models import loading, provenance, saved_models, training_state
from engine.models.model_folder import inspect_folder
from engine.models.saved_models import EarlierRun
from engine.worker.job import Phase, WorkerJob, build_fixed_phases
from engine.worker.temporary_folder import use_temporary_folder
from store.core.errors import ModelError
from store.core.job_folder import read_json, write_json
from store.core.model_schemas import ModelNote, ModelOrigin, RegisteredFiles, VersionFile
from store.core.version_folders import VersionDir, compute_fingerprint, hash_file, list_files_below
from store.evaluation.config import ModelSelection
from store.registry.config import RegisterConfig
from store.training.methods import METHODS, WHOLE_METHOD
from store.training.train_config import TrainConfig

# A version is independent of its run. It includes `training.json` (how and on which rows the model was
# trained) and the split of the run, so that it is loaded and evaluated as its run would be.

CHUNK = 2**22
MODEL_CARD = "README.md"  # a run's is a library template; a version's is generated from its data


def fill_version_folder(job: WorkerJob, config: RegisterConfig, folder: Path) -> RegisteredFiles:
    """Fill the empty `folder`. Raises ModelError and StateError if there is no model."""
    take = _copy_run if config.run else _copy_model_folder
    base, adapter, notices = take(job, config, VersionDir(folder))
    files = _hash_files(job, folder)
    return {
        "base_model": base,
        "adapter": adapter,
        "fingerprint": compute_fingerprint(files),
        "files": files,
        "notices": notices,
    }


def _copy_run(
    job: WorkerJob, config: RegisterConfig, target: VersionDir
) -> tuple[str | None, bool, list[str]]:
    run = evaluated_model.find_run(job, config.run)
    asked = ModelSelection(run=config.run, checkpoint=config.checkpoint)
    copied: list[FolderCopy] = []
    if (
        config.checkpoint != "tuned"
        and training_state.load_newest_checkpoint(run.folder.checkpoints) is not None
    ):
        _save_checkpoint(job, run, asked, target.path)
    else:
        evaluated_model.check_ended(run, asked)
        files = [name for name in list_files_below(run.folder.model) if name != MODEL_CARD]
        copied.append(FolderCopy(run.folder.model, target.path, files))
    if run.folder.base.exists():
        copied.append(FolderCopy(run.folder.base, target.base, list_files_below(run.folder.base)))
    _copy_folders(job, copied)
    if run.folder.split.exists():
        shutil.copyfile(run.folder.split, target.split)
    spec = read_json(run.folder.config)
    training = {"config": spec["config"], "dataset": spec["dataset"], "split": spec["split"]}
    write_json(target.config, training)
    return run.config.model, run.adapter, []


def _save_checkpoint(job: WorkerJob, run: EarlierRun, asked: ModelSelection, folder: Path) -> None:
    """Save the weights of a stopped run's checkpoint as the run itself would have saved them."""
    loaded = evaluated_model.load_model(job, asked)
    origin: ModelOrigin = {"own_base": run.folder.base.exists()}
    if loaded.course:
        origin["course"] = loaded.course
    saved_models.save_model(loaded.model, loaded.tokenizer, run.config, folder, origin)
    if loaded.labels is not None:
        loaded.model.config.save_pretrained(folder)
        note = read_json(folder / "tunebench.json")
        write_json(folder / "tunebench.json", note | {"labels": loaded.labels})


def _copy_model_folder(
    job: WorkerJob, config: RegisterConfig, target: VersionDir
) -> tuple[str | None, bool, list[str]]:
    source = Path(config.path).expanduser()
    present = inspect_folder(source)
    notices: list[str] = []
    base = config.base
    if present.adapter:
        base = base or present.base
        base_folder = _find_base_folder(job, base)
        _copy_folders(job, [FolderCopy(source, target.path, present.files)])
        if not present.tokenizer:
            loading.load_tokenizer(base_folder).save_pretrained(target.path)
            notices.append(f"The folder had no tokenizer: that of {base} was added to the adapter.")
    elif base:
        raise ModelError(
            "The folder contains a full model, which has no base model.", fix="Remove base.", field="base"
        )
    else:
        _copy_folders(job, [FolderCopy(source, target.path, present.files)])
    method = "lora" if present.adapter else WHOLE_METHOD
    trained = TrainConfig(
        name=config.name,
        model=base or config.name,
        dataset="none",
        method=method,
        task="classification" if present.labels else "sft",
    )
    write_json(target.config, {"config": trained.model_dump(), "dataset": {"fingerprint": ""}, "split": None})
    if provenance.read_note(target.path) is None:
        write_json(target.path / "tunebench.json", _build_note(base or config.name, trained, present.labels))
    return base or None, present.adapter, notices


def _build_note(base: str, config: TrainConfig, labels: list[str]) -> ModelNote:
    method = METHODS[config.method]
    note: ModelNote = {
        "base_model": base,
        "method": config.method,
        "adapter": method.adapter,
        "held": "",
        "merges": method.merges,
    }
    if labels:
        note["labels"] = labels
    return note


def _find_base_folder(job: WorkerJob, base: str) -> str:
    """Return the base model of an adapter. Raises ModelError (base) if it isn't available."""
    if not base:
        raise ModelError("The adapter does not name its base model.", fix="Set its base model.", field="base")
    try:
        return evaluated_model.resolve_source(job, base)
    except ModelError as error:
        raise ModelError(
            f"The adapter belongs to {base}, which is not available here: {error.message}",
            fix="Set the base model to its name on this machine.",
            field="base",
        ) from error


class FolderCopy(NamedTuple):
    """Files to copy from `source` to `target`."""

    source: Path
    target: Path
    files: list[str]


def _copy_folders(job: WorkerJob, copied: list[FolderCopy]) -> None:
    """Copy the files of all folders, with progress."""
    files = [(source / name, target / name) for source, target, names in copied for name in names]
    whole = sum(source.stat().st_size for source, _ in files)
    if whole > shutil.disk_usage(job.home.path).free:
        raise job.home.no_room()
    done = 0
    for source, target in files:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(source, "rb") as read, open(target, "xb") as write:
            while piece := read.read(CHUNK):
                write.write(piece)
                done += len(piece)
                job.check_cancelled()
                job.progress(done, whole, "bytes", "Copying the files")
            write.flush()
            os.fsync(write.fileno())


def _hash_files(job: WorkerJob, folder: Path) -> list[VersionFile]:
    """Return every file with its size, modification time and checksum."""
    names = list_files_below(folder)
    whole = sum((folder / name).stat().st_size for name in names)
    done = 0
    files: list[VersionFile] = []
    for name in names:
        digest = hash_file(folder / name, lambda _: job.check_cancelled())
        state = (folder / name).stat()
        done += state.st_size
        job.progress(done, whole, "bytes", "Computing checksums")
        seal = VersionFile(
            path=name,
            bytes=state.st_size,
            sha256=digest,
            modified_ns=state.st_mtime_ns,
        )
        files.append(seal)
    return files


# Estimated: copying writes and syncs the files, and they are read once more for checksums.
phases = build_fixed_phases(
    LOADING_MESSAGE,
    Phase("Copying the files", 2),
    Phase("Computing checksums", 1),
)


def run(job: WorkerJob) -> RegisteredFiles:
    """Copy, check and hash the files. Raises ModelError, StateError and NotFoundError if there is no
    model.
    """
    config = RegisterConfig.parse(job.config["register"])
    with use_temporary_folder(job, what="the version", again="register again") as folder:
        made = folder / "version"
        made.mkdir()
        result = fill_version_folder(job, config, made)
        job.check_cancelled()
        shutil.rmtree(job.dir.version, ignore_errors=True)
        os.rename(made, job.dir.version)
    for notice in result["notices"]:
        job.alert(notice, level="info")
    return result
