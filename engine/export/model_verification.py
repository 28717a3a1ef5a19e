"""The job `model_verify`: compare a folder or file, supposedly an export of a model, with that model.

It may have been edited or come from elsewhere. It is loaded only if its files have, by name and to the last
tensor, the content of an export of that model: otherwise the differences are reported, and no row is run.
The format is given, noted at export, or detected from the files alone; no code of theirs is run.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

from engine.evaluation.evaluated_model import LOADING_MESSAGE
from engine.export import format_writers, publication, tensor_manifest
from engine.export.export_subject import ExportSubject, ExportTask, resolve_subject
from engine.export.parity import checking
from engine.models import loading
from engine.models.model_folder import list_plain_files
from engine.worker.job import Phase, Phases, WorkerJob
from engine.worker.temporary_folder import use_temporary_folder
from store.core.errors import ConfigError, ModelError, NotFoundError
from store.core.export_schemas import (
    ExportManifest,
    ModelVerifyResult,
    StoredManifest,
    VerifySpec,
    WrittenWeights,
)
from store.core.job_folder import read_json
from store.export.config import ModelExport, ModelVerify
from store.export.forms import FORMS, GGUF_FORMS, OLLAMA_GGUF
from store.jobs.schemas import JobSpec

BEGINNING = "Reading the files"
OURS, ANEW = (
    "Tensors were compared with the checksums recorded at export.",
    "Tensors were compared with a new export in this format, as there is no manifest for these files.",
)


class DetectedFormat(NamedTuple):
    """Detected format; gguf: format of Ollama's GGUF file."""

    form: str
    gguf: str


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
    check_location(path)
    beside = next((noted for noted in spec["manifests"] if _is_noted(_locate_manifest(path), noted)), None)
    if asked.form:
        recognised = DetectedFormat(asked.form, spec["gguf"])
    elif beside:
        recognised = DetectedFormat(beside["form"], beside["gguf"] or spec["gguf"])
    else:
        recognised = detect_format(path)
    with use_temporary_folder(job, what="the check", again="verify again") as aside:
        return ExportVerifier(job, asked.as_export(*recognised), path, aside, began).run()


def _locate_manifest(path: Path) -> Path:
    return (path if path.is_dir() else path.parent) / tensor_manifest.FILE


def _is_noted(file: Path, noted: StoredManifest) -> bool:
    return file.is_file() and publication.compute_file_digest(file) == noted["sha256"]


def check_location(path: Path) -> None:
    """Raise NotFoundError for a missing path, ModelError for links out of the folder or special files."""
    if path.is_dir():
        list_plain_files(path)
    elif not path.is_file():
        raise NotFoundError(
            f"No such file or folder: {path}.",
            fix="Give the folder of an export, or a GGUF file.",
            field="path",
        )


def detect_format(path: Path) -> DetectedFormat:
    """Return the format. Raises ModelError for files that are no export, ConfigError for ambiguous ones."""
    if path.is_file():
        return DetectedFormat(_detect_gguf(path), OLLAMA_GGUF)
    files = sorted(path.glob("*.gguf"))
    if len(files) > 1:
        raise ConfigError(
            f"{path} contains {len(files)} GGUF files.", fix="Give one of the files.", field="path"
        )
    if files:
        form = _detect_gguf(files[0])
        return DetectedFormat("ollama", form) if (path / "Modelfile").exists() else DetectedFormat(form, form)
    if (path / "adapter_model.safetensors").exists():
        return DetectedFormat("adapter", OLLAMA_GGUF)
    return DetectedFormat(_detect_weights(path), OLLAMA_GGUF)


def _detect_gguf(file: Path) -> str:
    with tensor_manifest.open_gguf(file) as reader:
        field = reader.fields.get("general.file_type")
        kind = int(field.contents()) if field else -1
    form = next((name for name in GGUF_FORMS if FORMS[name].ftype == kind), None)
    if form is None:
        raise ModelError(
            f"{file.name} has the unsupported GGUF file type {kind}.",
            fix="Export the model again.",
            field="path",
        )
    return form


def _detect_weights(folder: Path) -> str:
    tensors = tensor_manifest.read_weights(folder)["tensors"]
    if not tensors:
        raise ModelError(
            f"{folder} contains neither safetensors weights nor a GGUF file.",
            fix="Give the folder of an export.",
            field="path",
        )
    try:
        settings: Any = read_json(folder / tensor_manifest.CONFIG)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{tensor_manifest.CONFIG} in {folder} is not valid JSON: the format can't be detected.",
            fix="Copy the folder again, or give the form.",
            field="form",
        ) from error
    quantised = settings.get("quantization_config") if isinstance(settings, dict) else None
    if isinstance(quantised, dict):
        return _detect_quantised(quantised)
    whole = all(tensor["dtype"] == "F32" for tensor in tensors.values())
    return "merged-f32" if whole else "merged"


def _detect_quantised(settings: dict[str, object]) -> str:
    if settings.get("quant_method") == "compressed-tensors":
        groups = settings.get("config_groups")
        inputs = (
            [group.get("input_activations") for group in groups.values()] if isinstance(groups, dict) else []
        )
        return "compressed-tensors-w8a8" if any(inputs) else "compressed-tensors"
    return "int4" if settings.get("load_in_4bit") else "int8"


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
