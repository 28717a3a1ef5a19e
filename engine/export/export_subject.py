"""The exported model and the inputs of the format writers: files, tokenizer, full weights, working folders.

The subject is the model or a checkpoint of a run, or the files of a registered version. Invariant: an adapter
is merged into full-precision weights, whatever precision it was trained on, and rounded once.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from engine.evaluation import evaluated_model
from engine.evaluation.evaluated_model import EvaluatedModel
from engine.export import tensor_manifest
from engine.models import loading, provenance, saved_models
from engine.models.classification import upcast_head
from engine.models.provenance import HUB_ID, REVISION
from engine.models.saved_models import TOKENIZER, VOCABULARIES, EarlierRun
from engine.worker.job import WorkerJob
from store.core.errors import ConfigError, ModelError, NotFoundError
from store.core.export_schemas import ExportedVersion, ExportSpec
from store.core.job_folder import JobDir, read_json, write_json
from store.core.model_schemas import BaseReference, ModelNote, ModelOrigin
from store.evaluation.config import ModelSelection
from store.export.config import ModelExport
from store.export.forms import ExportForm
from store.training.methods import METHODS, WHOLE_METHOD
from store.training.train_config import TrainConfig

# Every subject becomes the same structure: a folder with an adapter or full weights and the tokenizer, the
# base model of the adapter, and the config it was evaluated with. The export and the model it is compared
# with are loaded from the same.


class _RelocatedRun(JobDir):
    """Run folder whose model is elsewhere: in a version, or in a temporary folder for a checkpoint."""

    def __init__(self, path: Path, model: Path, base: Path) -> None:
        super().__init__(path)
        self._model, self._base = model, base

    @property
    def model(self) -> Path:
        return self._model

    @property
    def base(self) -> Path:
        return self._base


@dataclass(frozen=True)
class ExportSubject:
    """Model to export.

    name: sanitized, usable as a folder name; run: files and config as an evaluation loads them; labels: of a
    classification head.
    """

    name: str
    title: str
    run: EarlierRun
    labels: list[str] | None

    @property
    def config(self) -> TrainConfig:
        return self.run.config

    @property
    def folder(self) -> Path:
        return self.run.folder.model

    @property
    def adapter(self) -> bool:
        return (self.folder / "adapter_config.json").exists()

    @property
    def merges(self) -> bool:
        return not self.adapter or METHODS[self.config.method].merges

    @property
    def note(self) -> ModelNote | dict[str, Any]:
        """Return the run's note beside the model files; empty for an external folder."""
        return provenance.read_note(self.folder) or {}

    @property
    def own_base(self) -> bool:
        """Whether its base model was made by an earlier run and is stored beside it."""
        return self.run.folder.base.exists()

    def base(self, job: WorkerJob) -> str:
        """Return the folder or hub id of the base model of an adapter, at the commit it was trained on.

        For full weights, return their own folder.
        """
        if not self.adapter:
            return str(self.folder)
        source = evaluated_model.resolve_base_source(job, self.run)
        return provenance.find_pinned_folder(source, saved_models.read_base(self.folder))

    def load(self, job: WorkerJob) -> EvaluatedModel:
        """Load the model as evaluations do, on a CPU in fp32.

        Arithmetic in bfloat16 differs by more than some formats lose. A GPU may lack the memory, so there the
        run's precision is used.
        """
        run = self.run
        if job.device == "cpu":
            run = replace(run, config=run.config.model_copy(update={"dtype": "float32"}))
        if not self.adapter and self.labels is None:
            return evaluated_model.load_untrained(job, run.config, str(self.folder))
        return evaluated_model.load_tuned(job, run)


def resolve_subject(job: WorkerJob, config: ModelExport, aside: Path) -> ExportSubject:
    """Return the subject of the job's specification; a checkpoint is written into `aside` first.

    Raises: NotFoundError if its files are missing, StateError if the checkpoint doesn't exist.
    """
    spec: ExportSpec = job.spec["export"]
    if version := spec.version:
        return _resolve_version(job, version)
    assert spec.run_id
    run = evaluated_model.find_run(job, spec.run_id)
    name = spec.run_name or run.config.name
    chosen = ModelSelection.parse({"run": spec.run_id, "checkpoint": config.checkpoint})
    if (run.folder.model / "tunebench.json").exists() and config.checkpoint == "tuned":
        evaluated_model.check_ended(run, chosen)
        return ExportSubject(sanitize_name(name), name, run, _read_labels(run.folder.model))
    loaded = evaluated_model.load_model(job, chosen)
    folder = _write_model(loaded, run, aside / "checkpoint")
    base = run.folder.base
    here = EarlierRun(_RelocatedRun(run.folder.path, folder, base), run.config, run.fingerprint)
    return ExportSubject(sanitize_name(name), name, here, loaded.labels)


def _write_model(loaded: EvaluatedModel, run: EarlierRun, folder: Path) -> Path:
    origin: ModelOrigin = {"own_base": run.folder.base.exists()}
    if loaded.course:
        origin["course"] = loaded.course
    saved_models.save_model(loaded.model, loaded.tokenizer, run.config, folder, origin)
    if loaded.labels is not None:
        note = read_json(folder / "tunebench.json") | {"labels": loaded.labels}
        write_json(folder / "tunebench.json", note)
        loaded.model.config.save_pretrained(folder)
    return folder


def _resolve_version(job: WorkerJob, version: ExportedVersion) -> ExportSubject:
    folder = job.home.path / version.folder
    if not folder.is_dir():
        raise NotFoundError(
            f"The files of {version.name}@{version.version} are missing from {folder}.",
            fix="Register the model again.",
            field="subject",
        )
    run = None
    if version.run_id and (job.home.jobs / version.run_id).is_dir():
        run = evaluated_model.find_run(job, version.run_id)
    config = run.config if run else _read_config(folder)
    own = folder / "base"  # a version may include the base model of its adapter
    base = own if own.exists() or run is None else run.folder.base
    here = _RelocatedRun(run.folder.path if run else folder, folder, base)
    title = f"{version.name}@{version.version}"
    name = sanitize_name(f"{version.name}-v{version.version}")
    return ExportSubject(
        name, title, EarlierRun(here, config, run.fingerprint if run else ""), _read_labels(folder)
    )


def _read_config(folder: Path) -> TrainConfig:
    """Return a config to load a version's files with, if its run was deleted or it was added as a folder."""
    note = provenance.read_note(folder)
    if note is None:
        return evaluated_model.build_default_config(str(folder))
    changes: dict[str, object] = {"model": note["base_model"], "dataset": "none", "method": note["method"]}
    if note["held"] and note["method"] != "qlora":
        changes["load_in_4bit" if note["held"] == "nf4" else "load_in_8bit"] = True
    if _read_labels(folder):
        changes["task"] = "classification"
    return TrainConfig(**changes)


def _read_labels(folder: Path) -> list[str] | None:
    note = provenance.read_note(folder)
    return note.get("labels") if note else None


def sanitize_name(text: str) -> str:
    """Replace all characters but letters, digits, dots, dashes and underscores."""
    plain = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "._-") else "-" for sign in text)
    while "--" in plain:
        plain = plain.replace("--", "-")
    return plain.strip("-.")[:80] or "model"


def describe_public_base(subject: ExportSubject, job: WorkerJob) -> BaseReference:
    """Return a public reference to the base model of an adapter, or to the origin of full weights.

    It is the hub id and the loaded commit where known, otherwise a plain name, never a path of this machine.
    """
    note = provenance.read_note(subject.folder)
    if subject.own_base and subject.adapter:  # made by an earlier run, so not on a hub
        return {"name": sanitize_name(f"{subject.name}-base"), "hub_id": None, "revision": None}
    if note and (base := note.get("base")) and not subject.own_base:
        return base
    name = subject.config.model
    if name not in loading.BUNDLED:  # not the weights of the hub's model of that name
        source = _resolve_source(job, name)
        if not Path(source).exists() and HUB_ID.fullmatch(source):
            return {"name": source, "hub_id": source, "revision": _read_revision(subject, source)}
    return {"name": sanitize_name(provenance.shorten_name(name)), "hub_id": None, "revision": None}


def _resolve_source(job: WorkerJob, name: str) -> str:
    try:
        return loading.resolve_model(name, job.home)
    except ModelError:  # a missing folder, or a name known only on another machine
        return str(Path(name).resolve())


def _read_revision(subject: ExportSubject, hub_id: str) -> str | None:
    """Return the commit in the adapter's own settings; the cache may hold another one by now."""
    settings = read_json(subject.folder / "adapter_config.json") or {}
    revision = settings.get("revision")
    same = settings.get("base_model_name_or_path") == hub_id
    return revision if same and isinstance(revision, str) and REVISION.fullmatch(revision) else None


TEMPLATES = "additional_chat_templates"
TOKENIZER_FILES = (
    TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    *VOCABULARIES,
)  # fmt: skip


def copy_tokenizer_files(job: WorkerJob, subject: ExportSubject, folder: Path) -> None:
    """Copy the tokenizer files from the model's folder, byte by byte."""
    for name in TOKENIZER_FILES:
        if (subject.folder / name).is_file():
            shutil.copyfile(subject.folder / name, folder / name)
    for template in sorted((subject.folder / TEMPLATES).glob("*.jinja")):
        (folder / TEMPLATES).mkdir(exist_ok=True)
        shutil.copyfile(template, folder / TEMPLATES / template.name)
    _add_base_files(job, subject, folder)


def write_tokenizer_files(job: WorkerJob, subject: ExportSubject, folder: Path) -> None:
    """Write the tokenizer files as the library does beside full weights."""
    loading.load_tokenizer(str(subject.folder)).save_pretrained(folder)
    saved_models.add_vocabulary(str(subject.folder), folder)
    _add_base_files(job, subject, folder)


def _add_base_files(job: WorkerJob, subject: ExportSubject, folder: Path) -> None:
    """Add the base model's vocabulary files.

    A run doesn't save them, so they are fetched from the hub.
    """
    base = subject.base(job)
    saved_models.fetch_vocabulary(base)
    saved_models.add_vocabulary(base, folder)


# Merging is done in fp32 and rounded once, when a format is written. The process must not have loaded another
# model before, as quantized layers patch the library.

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def check_mergeable(subject: ExportSubject) -> None:
    """Raise ConfigError (form) for an adapter that can't be merged into weights."""
    if subject.merges:
        return
    method = METHODS[subject.config.method]
    raise ConfigError(
        f"{method.title} can't be merged into the weights.",
        fix="Choose the form adapter.",
        field="form",
    )


def load_merged(job: WorkerJob, subject: ExportSubject, dtype: torch.dtype = torch.float32) -> Any:
    """Load the model with the adapter merged into its weights. Raises ConfigError if it can't be merged."""
    check_mergeable(subject)
    source = subject.base(job)
    plain = subject.config.model_copy(
        update={"method": WHOLE_METHOD, "load_in_4bit": False, "load_in_8bit": False}
    )
    headed = subject.labels is not None
    architecture = loading.load_config(str(subject.folder)) if headed else None
    model = loading.load_model(plain, source, "cpu", dtype, architecture)
    if subject.adapter:
        model = saved_models.load_tuned_model(subject.folder, model).merge_and_unload()
    if headed:
        upcast_head(model)
    model.config.use_cache = True  # training disables it
    return model


def read_stored_dtype(job: WorkerJob, subject: ExportSubject) -> torch.dtype:
    """Return the dtype of the base model's files, which users of the export expect."""
    source = Path(subject.base(job))
    written = read_json(source / "config.json") if source.is_dir() else None
    if written is None:
        written = loading.load_config(str(source)).to_dict()
    name = str(written.get("dtype") or written.get("torch_dtype") or "float32").removeprefix("torch.")
    return DTYPES.get(name, torch.float32)


WRITTEN_FILE = "written.json"  # in the working folder: checksums of the tensors as written


@dataclass(frozen=True)
class ExportTask:
    """Inputs of a format writer; tell: reports the current activity as the job's progress."""

    job: WorkerJob
    subject: ExportSubject
    config: ModelExport
    form: ExportForm
    folder: Path
    aside: Path
    tell: Callable[[str], None]

    def note_written(self) -> None:
        """Record checksums of the tensors as written, for comparison with the folder later."""
        write_json(self.aside / WRITTEN_FILE, tensor_manifest.read_weights(self.folder))

    def write_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer files beside full weights."""
        write_tokenizer_files(self.job, self.subject, folder)

    def tokenizer(self) -> Any:
        """Load the subject's tokenizer, with its template."""
        return loading.load_tokenizer(str(self.subject.folder))
