"""The job `model_export`: write a model in one format and compare it with the evaluated model.

Everything is written to a temporary folder. A format that doesn't support the model, or too little disk
space, is refused before anything is written. The folder is renamed once files, card, parity and checksums are
complete.
"""

from __future__ import annotations

import time
from pathlib import Path

from engine.evaluation.evaluated_model import LOADING_MESSAGE
from engine.export import (
    export_subject,
    format_writers,
    gguf_formats,
    model_card,
    publication,
    tensor_manifest,
)
from engine.export.export_subject import ExportSubject, ExportTask, describe_public_base, resolve_subject
from engine.export.external_tools import COMPRESSOR
from engine.export.parity import checking
from engine.models import loading
from engine.models.bundled import count_parameters
from engine.worker.job import Phase, Phases, WorkerJob
from engine.worker.temporary_folder import use_temporary_folder
from store.core.errors import ConfigError, StateError
from store.core.export_schemas import (
    BaseFingerprint,
    ExportManifest,
    ExportSpec,
    ModelCard,
    ModelExportResult,
    ParityReport,
    WrittenWeights,
)
from store.core.job_folder import write_json
from store.export.config import ModelExport
from store.export.forms import COMPRESSED, FORMS, get_file_form
from store.jobs.schemas import JobSpec

WEIGHTS = (".safetensors", ".gguf")
FULL, HALF = 4, 2  # bytes per weight in fp32 and in 16 bits
BEGINNING = "Reading the model"
STEPS = 9  # approximate number of progress messages


def phases(spec: JobSpec) -> Phases:
    """Return the phases: writing, reading back, publishing."""
    ending = Phase(("Computing checksums", "Writing the zip file", "Pushing to "), 0.05)
    asked = ModelExport.parse(spec["config"])
    return (
        LOADING_MESSAGE,
        Phase((BEGINNING, *format_writers.MESSAGES), 0.15),
        *checking.phases(asked),
        ending,
    )


def run(job: WorkerJob) -> ModelExportResult:
    """Export as `job.config` says.

    Raises: ConfigError for a format that doesn't support the model, DataError for a full disk, StateError for
    missing tools or an unreachable hub.
    """
    config = ModelExport.parse(job.config)
    began = time.monotonic()
    job.status("preparing")
    if config.hub:
        publication.check_repository(config.hub, private=config.private)
    with use_temporary_folder(job, what="the export", again="export again") as aside:
        return ModelExporter(job, config, aside, began).run()


class ModelExporter:
    """One export: write, compare, describe, publish."""

    def __init__(self, job: WorkerJob, config: ModelExport, aside: Path, began: float) -> None:
        self.job, self.config, self.aside, self.began = job, config, aside, began
        self.form = FORMS[config.form]
        self.folder = aside / "export"
        self.folder.mkdir()
        self.done = 0

    def run(self) -> ModelExportResult:
        job, config = self.job, self.config
        self.tell(BEGINNING)
        subject = resolve_subject(job, config, self.aside)
        source_bytes = self._check(subject)
        notices, written = format_writers.write(self._work(subject))
        parity, more = checking.check(job, subject, config, self.folder, self.aside, written)
        notices += more
        self._write_manifest(subject, written)
        export = model_card.WrittenExport(subject, config, self._card(subject), self.folder)
        card = model_card.build_export_card(export, parity, notices)
        (self.folder / "README.md").write_text(card, encoding="utf-8")
        files = publication.write_checksums(self.folder, self.tell)
        address = self._push(parity, notices)
        name = f"{subject.name}-{config.form}"
        archive = None
        if config.zip:
            archive = self.aside / "export.zip"
            publication.write_zip(self.folder, archive, name, self.tell)
        job.check_cancelled()
        published = publication.publish(job, self.folder, archive, name)
        return ModelExportResult(
            form=config.form,
            gguf=config.gguf if config.form == "ollama" else None,
            name=published.folder.name,
            folder=published.folder.relative_to(job.home.path).as_posix(),
            bytes=sum(file.bytes for file in files),
            model_bytes=sum(file.bytes for file in files if file.path.endswith(WEIGHTS)),
            source_bytes=source_bytes,
            files=files,
            zip=published.zip,
            hub=address,
            parity=parity,
            notices=notices,
            seconds=time.monotonic() - self.began,
        )

    def tell(self, what: str) -> None:
        """Report the next activity. Raises JobCancelled on a request to stop."""
        self.job.check_cancelled()
        self.done += 1
        self.job.progress(min(self.done, STEPS), STEPS, "steps", what)

    def _check(self, subject: ExportSubject) -> int:
        """Check that the format can be written; return the bytes of the model's full weights in 16 bits."""
        work = self._work(subject)
        if subject.labels is not None and not self.form.headed and self.form.reader != "llama.cpp":
            raise ConfigError(
                f"{subject.title} has a classification head, which {self.form.title} does not support.",
                fix="Choose the form merged.",
                field="form",
            )
        if self.form.reader == "llama.cpp":
            gguf_formats.check_gguf(work)
        if self.form.needs_merge:
            export_subject.check_mergeable(subject)
        if self.config.form in COMPRESSED:
            COMPRESSOR.check()
        checking.check_reader(self.config, subject, self.job.device)
        if self.form.reader == "llama.cpp":
            gguf_formats.check_tools()
        parameters = count_parameters(loading.find_weights_folder(subject.base(self.job)))
        publication.check_space(self.job, self._needed(parameters, subject))
        return HALF * parameters

    def _needed(self, parameters: int, subject: ExportSubject) -> int:
        """Return the disk space needed during the export, in bytes."""
        form = get_file_form(self.config.form, self.config.gguf)
        if not self.form.needs_merge:
            made = sum(file.stat().st_size for file in subject.folder.iterdir() if file.is_file())
        else:
            made = int(parameters * form.bits / 8)
        between = FULL * parameters if self.form.needs_merge and self.form.family != "weights" else 0
        half = HALF * parameters if form.reader == "llama.cpp" and form.name != "gguf-f16" else 0
        return between + half + made * (2 if self.config.zip else 1)

    def _work(self, subject: ExportSubject) -> ExportTask:
        return ExportTask(self.job, subject, self.config, self.form, self.folder, self.aside, self.tell)

    def _card(self, subject: ExportSubject) -> ModelCard:
        """Return the card from the engine, completed from the model's files.

        These add the base model by hub id and commit, facts of its own card, and the training up to these
        weights.
        """
        spec: ExportSpec = self.job.spec["export"]
        document, base = spec.card, describe_public_base(subject, self.job)
        course = subject.note.get("course") or document["course"]
        untrained = not subject.adapter and document["base"] is None
        stated = model_card.UNKNOWN if untrained else model_card.read_base_card(self.job, subject)
        return {**document, "base": None if untrained else base, "base_card": stated, "course": course}

    def _write_manifest(self, subject: ExportSubject, written: WrittenWeights) -> None:
        """Write the manifest of the tensors, for later verification."""
        beneath: BaseFingerprint | None = None
        if self.form.family == "adapter":
            base = describe_public_base(subject, self.job)
            weights = tensor_manifest.read_weights(loading.find_weights_folder(subject.base(self.job)))
            sha256 = tensor_manifest.compute_fingerprint(weights)
            beneath = {"name": base["name"], "revision": base["revision"], "sha256": sha256}
        document: ExportManifest = {**written, "form": self.config.form, "base": beneath}
        write_json(self.folder / tensor_manifest.FILE, document)

    def _push(self, parity: ParityReport, notices: list[str]) -> str | None:
        """Push to the hub and return the repository's address, or None.

        An export that failed the check, or that the hub refused, stays local, with a notice.
        """
        if not self.config.hub:
            return None
        if parity.status == "failed":
            notices.append(f"Not pushed to {self.config.hub}: the parity check failed.")
            return None
        self.tell(f"Pushing to {self.config.hub}")
        try:
            return publication.push_to_hub(self.folder, self.config.hub, private=self.config.private)
        except StateError as error:
            notices.append(f"Not pushed. {error.message} {error.fix}")
            return None
