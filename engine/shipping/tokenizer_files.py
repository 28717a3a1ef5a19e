"""The tokenizer's files of an export: all that the run's tokenizer has, further chat templates among them."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.models import models, vocabularies
from engine.models.vocabularies import TOKENIZER, VOCABULARIES
from engine.shipping.subject import ExportSubject
from engine.worker.job import WorkerJob

TEMPLATES = "additional_chat_templates"
FILES = (
    TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    *VOCABULARIES,
)  # fmt: skip


def copy(job: WorkerJob, subject: ExportSubject, folder: Path) -> None:
    """As they lie beside the model, byte by byte."""
    for name in FILES:
        if (subject.folder / name).is_file():
            shutil.copyfile(subject.folder / name, folder / name)
    for template in sorted((subject.folder / TEMPLATES).glob("*.jinja")):
        (folder / TEMPLATES).mkdir(exist_ok=True)
        shutil.copyfile(template, folder / TEMPLATES / template.name)
    _add_of_base(job, subject, folder)


def write(job: WorkerJob, subject: ExportSubject, folder: Path) -> None:
    """As the library writes them beside whole weights."""
    models.load_tokenizer(str(subject.folder)).save_pretrained(folder)
    vocabularies.add(str(subject.folder), folder)
    _add_of_base(job, subject, folder)


def _add_of_base(job: WorkerJob, subject: ExportSubject, folder: Path) -> None:
    """A run is saved with what was loaded of its base alone, and no more is asked of the hub then."""
    base = subject.base(job)
    vocabularies.fetch(base)
    vocabularies.add(base, folder)
