"""The adapter as peft reads it, naming its base as others know it."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.shipping.forms.form_work import FormWork
from engine.shipping.subject import ExportSubject, public_base
from engine.worker.job import WorkerJob
from store.contract.errors import ConfigError
from store.contract.jobdir import read_json, write_json

LEFT_OUT = {"README.md", "tunebench.json"}
WEIGHTS = "*.safetensors"


def write(work: FormWork) -> list[str]:
    """Copy the adapter. Raises ConfigError (form) for whole weights."""
    subject = work.subject
    if not subject.adapter:
        raise ConfigError(
            f"{subject.title} is whole weights: there is no adapter.",
            fix="Choose the form merged, or a GGUF.",
            field="form",
        )
    work.tell("Copying the adapter")
    for file in sorted(subject.folder.glob(WEIGHTS)):
        shutil.copyfile(file, work.folder / file.name)
    name = write_settings(work.job, subject, work.folder)
    work.note_written()
    return [] if "/" in name else [_unpublished(name)]


def write_settings(job: WorkerJob, subject: ExportSubject, folder: Path) -> str:
    """All but the weights; the base's name as others know it."""
    for file in sorted(subject.folder.iterdir()):
        if file.is_file() and file.name not in LEFT_OUT and not file.match(WEIGHTS):
            shutil.copyfile(file, folder / file.name)
    name, revision = public_base(subject, job)
    settings = read_json(folder / "adapter_config.json")
    settings |= {"base_model_name_or_path": name, "revision": revision}
    write_json(folder / "adapter_config.json", settings)
    return name


def _unpublished(name: str) -> str:
    return (
        f"The base model is known here as {name}, which no hub has by that name: whoever loads the adapter"
        " has to give the base model's folder. The form merged needs no base."
    )
