"""What every form is given: the subject, the empty folder that it fills, and one aside for what lies between.

What was merged for it is in fp32 and lies in `merged`, made once, when a form asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.models import models
from engine.shipping import manifest, tokenizer_files
from engine.shipping.subject import ExportSubject
from engine.worker.job import WorkerJob
from store.catalog.export_forms import ExportForm
from store.config.shipping.model_export_config import ModelExport
from store.contract.jobdir import write_json

WRITTEN = "written.json"  # aside: the tensors as their writer left them


@dataclass(frozen=True)
class FormWork:
    """tell: what is being done, in words, for the job's progress."""

    job: WorkerJob
    subject: ExportSubject
    config: ModelExport
    form: ExportForm
    folder: Path
    aside: Path
    tell: Callable[[str], None]

    def note_written(self) -> None:
        """Note the tensors as they lie there now: what is found in the folder later is held against that."""
        write_json(self.aside / WRITTEN, manifest.of_weights(self.folder))

    def write_tokenizer(self, folder: Path) -> None:
        """Its files, beside whole weights."""
        tokenizer_files.write(self.job, self.subject, folder)

    def tokenizer(self) -> Any:
        """That of the subject, with its template."""
        return models.load_tokenizer(str(self.subject.folder))
