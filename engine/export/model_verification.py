"""The job `model_verify`: compare a folder or file, supposedly an export of a model, with that model.

It may have been edited or come from elsewhere. It is loaded only if its files have, by name and to the last
tensor, the content of an export of that model: otherwise the differences are reported, and no row is run.
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
    """Return the phases: reading, sometimes a new export, comparing with the model."""
    return (
        LOADING_MESSAGE,
        Phase((BEGINNING, *format_writers.MESSAGES), 0.1),
        *checking.phases(ModelVerify.parse(spec["config"])),
    )


def run(job: WorkerJob) -> ModelVerifyResult:
    """Verify as `job.config` says.

    Raises: NotFoundError, ModelError or ConfigError for invalid paths and files.
    """
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
    """Verification of `path` as an export according to `config`."""

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
        """Return the manifest of an export of this model in this format, if its checksum is in the store.

        The file beside the export is preferred, whichever export it belongs to, then those in the home
        folder.
        """
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
        """Return a cause if the base model of an adapter has changed since the export."""
        base = noted["base"]
        if base is None:
            return []
        weights = tensor_manifest.read_weights(loading.find_weights_folder(subject.base(self.job)))
        if tensor_manifest.compute_fingerprint(weights) == base["sha256"]:
            return []
        return [f"The weights of the base model {base['name']} have changed since the export."]
