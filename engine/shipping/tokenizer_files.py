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
    vocabularies.add(subject.base(job), folder)  # runs from before were saved without


def write(job: WorkerJob, subject: ExportSubject, folder: Path) -> None:
    """As the library writes them beside whole weights."""
    models.load_tokenizer(str(subject.folder)).save_pretrained(folder)
    for source in (str(subject.folder), subject.base(job)):
        vocabularies.add(source, folder)
