"""What is exported: the model that a run left or was on its way to, or the files of a registered version.

However it was named, it becomes one thing: a folder with an adapter or whole weights and the tokenizer, the
model beneath the adapter, and the config with which it was evaluated. What is exported and what it is held
against are loaded from the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.evaluation import evaluated
from engine.evaluation.evaluated import Evaluated
from engine.models import base_names, model_note, models, saving
from engine.models.base_names import HUB_ID, REVISION
from engine.models.continued import EarlierRun
from engine.worker.job import WorkerJob
from store.catalog.methods import METHODS
from store.config.judging.answering import ChosenModel
from store.config.shipping.model_export_config import ModelExport
from store.config.training.train_config import TrainConfig
from store.contract.errors import ModelError, NotFoundError
from store.contract.jobdir import JobDir, read_json, write_json
from store.documents.models.saved_model import BaseReference, ModelNote, ModelOrigin
from store.documents.shipping.export import ExportedVersion, ExportOrder


class _FilesOf(JobDir):
    """A run's folder whose model lies elsewhere: in a version, or as a checkpoint was written aside."""

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
    """`name`: plain, for a folder. `run`: files and config as an evaluation loads them. labels: of a head."""

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
        """What the run noted beside the files; empty for a folder from elsewhere."""
        return model_note.read(self.folder) or {}

    @property
    def own_base(self) -> bool:
        """Whether what it stands on was made by an earlier run, and lies beside it."""
        return self.run.folder.base.exists()

    def base(self, job: WorkerJob) -> str:
        """Folder or hub id of the model beneath the adapter, of the hub's the commit that it was trained on;
        of whole weights they themselves."""
        if not self.adapter:
            return str(self.folder)
        source = evaluated.base_source(job, self.run)
        return base_names.pinned(source, saving.base_of(self.folder))

    def load(self, job: WorkerJob) -> Evaluated:
        """The model as evaluations load it; on a processor in fp32, as reckoning in bfloat16 differs by
        more than some forms lose. A GPU may not have the room, and keeps the run's precision."""
        run = self.run
        if job.device == "cpu":
            run = replace(run, config=run.config.model_copy(update={"dtype": "float32"}))
        if not self.adapter and self.labels is None:
            return evaluated.untouched(job, run.config, str(self.folder))
        return evaluated.tuned(job, run)


def of_job(job: WorkerJob, config: ModelExport, aside: Path) -> ExportSubject:
    """The subject of the job's order; a checkpoint is written into `aside` first. Raises NotFoundError where
    its files are gone, StateError for a checkpoint that isn't there."""
    order: ExportOrder = job.order["export"]
    if version := order["version"]:
        return _of_version(job, version)
    assert order["run_id"]
    run = evaluated.of_run(job, order["run_id"])
    name = order["run_name"] or run.config.name
    chosen = ChosenModel.parse({"run": order["run_id"], "checkpoint": config.checkpoint})
    if (run.folder.model / "tunebench.json").exists() and config.checkpoint == "tuned":
        evaluated.check_ended(run, chosen)
        return ExportSubject(plain_name(name), name, run, _labels(run.folder.model))
    loaded = evaluated.load(job, chosen)
    folder = _written(loaded, run, aside / "checkpoint")
    base = run.folder.base
    here = EarlierRun(_FilesOf(run.folder.path, folder, base), run.config, run.fingerprint)
    return ExportSubject(plain_name(name), name, here, loaded.labels)


def _written(loaded: Evaluated, run: EarlierRun, folder: Path) -> Path:
    origin: ModelOrigin = {"own_base": run.folder.base.exists()}
    if loaded.course:
        origin["course"] = loaded.course
    saving.save(loaded.model, loaded.tokenizer, run.config, folder, origin)
    if loaded.labels is not None:
        note = read_json(folder / "tunebench.json") | {"labels": loaded.labels}
        write_json(folder / "tunebench.json", note)
        loaded.model.config.save_pretrained(folder)
    return folder


def _of_version(job: WorkerJob, version: ExportedVersion) -> ExportSubject:
    folder = job.home.path / version["folder"]
    if not folder.is_dir():
        raise NotFoundError(
            f"The files of {version['name']}@{version['version']} are gone from {folder}.",
            fix="Register the model again.",
            field="subject",
        )
    run = None
    if version["run_id"] and (job.home.jobs / version["run_id"]).is_dir():
        run = evaluated.of_run(job, version["run_id"])
    config = run.config if run else _config_of(folder)
    own = folder / "base"  # a version may bring the model beneath its adapter
    base = own if own.exists() or run is None else run.folder.base
    here = _FilesOf(run.folder.path if run else folder, folder, base)
    title = f"{version['name']}@{version['version']}"
    name = plain_name(f"{version['name']}-v{version['version']}")
    return ExportSubject(
        name, title, EarlierRun(here, config, run.fingerprint if run else ""), _labels(folder)
    )


def _config_of(folder: Path) -> TrainConfig:
    """With which the files of a version are loaded whose run is gone, or which were brought as a folder."""
    note = model_note.read(folder)
    if note is None:
        return evaluated.plain_config(str(folder))
    changes: dict[str, Any] = {"model": note["base_model"], "dataset": "none", "method": note["method"]}
    if note["held"] and note["method"] != "qlora":
        changes["load_in_4bit" if note["held"] == "nf4" else "load_in_8bit"] = True
    if _labels(folder):
        changes["task"] = "classification"
    return TrainConfig(**changes)


def _labels(folder: Path) -> list[str] | None:
    note = model_note.read(folder)
    return note.get("labels") if note else None


def plain_name(text: str) -> str:
    """The name with nothing but letters, digits, dots, dashes and underlines."""
    plain = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "._-") else "-" for sign in text)
    while "--" in plain:
        plain = plain.replace("--", "-")
    return plain.strip("-.")[:80] or "model"


def public_base(subject: ExportSubject, job: WorkerJob) -> BaseReference:
    """The model beneath the adapter as others know it: its hub id and the commit that was loaded where these
    are known, else a plain name, never a path of this machine. Of whole weights what they were made of."""
    note = model_note.read(subject.folder)
    if subject.own_base and subject.adapter:  # made by an earlier run: no hub has it
        return {"name": plain_name(f"{subject.name}-base"), "hub_id": None, "revision": None}
    if note and (base := note.get("base")) and not subject.own_base:
        return base
    name = subject.config.model
    if name not in models.BUNDLED:  # in 4 bits once: not the weights of the hub's model of that name
        source = _resolved(job, name)
        if not Path(source).exists() and HUB_ID.fullmatch(source):
            return {"name": source, "hub_id": source, "revision": _named_revision(subject, source)}
    return {"name": plain_name(base_names.plain_name(name)), "hub_id": None, "revision": None}


def _resolved(job: WorkerJob, name: str) -> str:
    try:
        return models.resolve(name, job.home)
    except ModelError:  # a folder that is gone, or a name that means something elsewhere
        return str(Path(name).resolve())


def _named_revision(subject: ExportSubject, hub_id: str) -> str | None:
    """The commit that the adapter's own settings name; what the cache holds by now may be another."""
    settings = read_json(subject.folder / "adapter_config.json") or {}
    revision = settings.get("revision")
    same = settings.get("base_model_name_or_path") == hub_id
    return revision if same and isinstance(revision, str) and REVISION.fullmatch(revision) else None
