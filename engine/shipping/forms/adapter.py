"""The adapter as peft reads it, naming its base as others know it."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.models import models
from engine.shipping import tokenizer_files
from engine.shipping.forms.form_work import FormWork
from engine.shipping.subject import ExportSubject, public_base
from engine.worker.job import WorkerJob
from store.contract.errors import ConfigError
from store.contract.jobdir import read_json, write_json
from store.documents.models.saved_model import BaseReference

SETTINGS = "adapter_config.json"
MODEL_FILES = (SETTINGS, "config.json", "generation_config.json")  # a classifier's config has its labels
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
    base = write_settings(work.job, subject, work.folder)
    work.note_written()
    return [] if base["hub_id"] else [unpublished(subject, base)]


def write_settings(job: WorkerJob, subject: ExportSubject, folder: Path) -> BaseReference:
    """All but the weights; the base as others know it. Nothing but a model's own files: beside those of a
    registered version lie its split and its config, which are nobody else's business."""
    for name in MODEL_FILES:
        if (subject.folder / name).is_file():
            shutil.copyfile(subject.folder / name, folder / name)
    tokenizer_files.copy(job, subject, folder)
    base = public_base(subject, job)
    settings = read_json(folder / SETTINGS)
    write_json(
        folder / SETTINGS,
        settings | {"base_model_name_or_path": base["name"], "revision": base["revision"]},
    )
    return base


def unpublished(subject: ExportSubject, base: BaseReference) -> str:
    """What a reader has to know where no hub is known to have the base."""
    if subject.own_base:
        return (
            "The adapter belongs to a model that an earlier run made and that no hub has: it loads on no"
            " other. The form merged needs no base."
        )
    if base["name"] in models.BUNDLED:
        return (
            f"The base model is {base['name']} as a package of this machine carries it, written out from 4"
            " bits, and the hub's model of that name has other weights: whoever loads the adapter has to give"
            " this base model's folder. The form merged needs no base."
        )
    return (
        f"The base model is known here only as a local folder, {base['name']}: which model of a hub it is,"
        " nobody has recorded. Whoever loads the adapter has to give the base model's folder. Train on"
        " the model by its hub id (owner/name), and the adapter names it; the form merged needs no base."
    )
