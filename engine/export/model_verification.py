"""The job `model_verify`: a folder or file that is to be an export of a model, held against it again.

It may have been edited or come from somebody else. Nothing of it is loaded before its files are, by name and
to the last tensor, what an export of that model has: what differs is told, and not asked anything.
"""

from __future__ import annotations

import time
from pathlib import Path

from engine.evaluation.evaluated_model import LOADING_MESSAGE
from engine.export import format_detection, format_writers, publication, tensor_manifest
from engine.export.export_subject import ExportSubject, ExportTask, resolve_subject
from engine.export.format_detection import DetectedFormat
from engine.export.parity import checking
from engine.models import loading
from engine.worker.job import Phase, Phases, WorkerJob
from engine.worker.temporary_folder import use_temporary_folder
from store.core.export_schemas import (
    ExportManifest,
    ModelVerifyResult,
    StoredManifest,
    VerifySpec,
    WrittenWeights,
)
from store.core.job_folder import read_json
from store.export.config import ModelExport, ModelVerify
from store.export.forms import FORMS
from store.jobs.schemas import JobSpec

BEGINNING = "Reading the files"
OURS, ANEW = (
    "Tensors were compared with the checksums recorded at export.",
    "Tensors were compared with a new export in this format, as there is no manifest for these files.",
)


def phases(spec: JobSpec) -> Phases:
    """Read, in some checks written anew, and held against the model."""
    return (
        LOADING_MESSAGE,
        Phase((BEGINNING, *format_writers.MESSAGES), 0.1),
        *checking.phases(ModelVerify.parse(spec["config"])),
    )


def run(job: WorkerJob) -> ModelVerifyResult:
    """Verify what `job.config` names. Raises NotFoundError, ModelError, ConfigError for what is no export."""
    asked = ModelVerify.parse(job.config)
    spec: VerifySpec = job.spec["verify"]
    path, began = job.home.path / spec["path"], time.monotonic()
    job.status("preparing")
    job.progress(0, 1, "files", BEGINNING)
    format_detection.check_location(path)
    beside = next((noted for noted in spec["manifests"] if _is_noted(_locate_manifest(path), noted)), None)
    if asked.form:
        recognised = DetectedFormat(asked.form, spec["gguf"])
    elif beside:
        recognised = DetectedFormat(beside["form"], beside["gguf"] or spec["gguf"])
    else:
        recognised = format_detection.detect_format(path)
    with use_temporary_folder(job, what="the check", again="verify again") as aside:
        return ExportVerifier(job, asked.as_export(*recognised), path, aside, began).run()


def _locate_manifest(path: Path) -> Path:
    return (path if path.is_dir() else path.parent) / tensor_manifest.FILE


def _is_noted(file: Path, noted: StoredManifest) -> bool:
    return file.is_file() and publication.compute_file_digest(file) == noted["sha256"]


class ExportVerifier:
    """One check of `path`, which is to be what `config` would export."""

    def __init__(self, job: WorkerJob, config: ModelExport, path: Path, aside: Path, began: float) -> None:
        self.job, self.config, self.path, self.aside, self.began = job, config, path, aside, began

    def run(self) -> ModelVerifyResult:
        job, config = self.job, self.config
        subject = resolve_subject(job, config, self.aside)
        checking.check_reader(config, subject, job.device)
        noted = self._noted()
        written = noted or self._written_anew(subject)
        causes = self._other_base(subject, noted) if noted else []
        parity, notices = checking.check(
            job, subject, config, self.path, self.aside, written, known_causes=causes, ask_differing=False
        )
        return ModelVerifyResult(
            form=config.form,
            path=str(self.path),
            subject=subject.title,
            parity=parity,
            notices=[OURS if noted else ANEW, *notices],
            seconds=time.monotonic() - self.began,
        )

    def _noted(self) -> ExportManifest | None:
        """The manifest of an export of this model in this form: the file beside, whichever of them it is of,
        else that of a home folder, where its checksum is what the store has."""
        spec: VerifySpec = self.job.spec["verify"]
        manifests = [
            noted
            for noted in spec["manifests"]
            if noted["form"] == self.config.form and noted["gguf"] in (None, self.config.gguf)
        ]
        beside = _locate_manifest(self.path)
        homes = [(self.job.home.path / noted["folder"] / tensor_manifest.FILE, noted) for noted in manifests]
        for file, noted in [*((beside, noted) for noted in manifests), *homes]:
            if _is_noted(file, noted):
                document: ExportManifest = read_json(file)
                return document
        return None

    def _written_anew(self, subject: ExportSubject) -> WrittenWeights:
        form = FORMS[self.config.form]
        folder, aside = self.aside / "anew", self.aside / "writing"
        folder.mkdir()
        aside.mkdir()
        work = ExportTask(self.job, subject, self.config, form, folder, aside, self._tell)
        return format_writers.write(work)[1]

    def _tell(self, what: str) -> None:
        self.job.check_cancelled()
        self.job.progress(0, 1, "steps", what)

    def _other_base(self, subject: ExportSubject, noted: ExportManifest) -> list[str]:
        """What to say where the model beneath an adapter isn't that any more with which it was exported."""
        base = noted["base"]
        if base is None:
            return []
        weights = tensor_manifest.read_weights(loading.find_weights_folder(subject.base(self.job)))
        if tensor_manifest.compute_fingerprint(weights) == base["sha256"]:
            return []
        return [f"The weights of the base model {base['name']} have changed since the export."]
