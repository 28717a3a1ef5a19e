"""A model in the form in which it left: the row of `model_export`, and what the job that made it says."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NotRequired, TypedDict

from store.documents.shipping.card import ModelCard
from store.documents.shipping.parity import ParityReport, ParityStatus
from store.documents.shipping.version import VersionFile


class ExportedVersion(TypedDict):
    """What a worker has to know of a registered version (`ModelVersion`)."""

    model_id: str
    name: str
    version: int
    run_id: str | None
    folder: str  # beneath the home folder


class ExportOrder(TypedDict):
    """What the worker is told of the subject beside the config."""

    run_id: str | None  # whose model it is, or of which the version was made; null for an imported folder
    run_name: str | None
    version: ExportedVersion | None  # null where a run is exported
    card: ModelCard  # of the run's model or the version, as it is known when it is exported


class NotedManifest(TypedDict):
    """The manifest of an export that was made of a subject, as the store knows it."""

    form: str
    gguf: str | None
    folder: str  # of the export, beneath the home folder
    sha256: str  # of its manifest.json


class VerifyOrder(TypedDict):
    """What is to be verified, and what the store knows of exports of the same model."""

    path: str
    gguf: str  # of the form ollama, where the form was told: which file it was given
    manifests: list[NotedManifest]


class ModelVerifyResult(TypedDict):
    """What came of holding a folder or file against a model again. It stays in the row of its job."""

    form: str
    path: str
    subject: str  # the run's name, or NAME@3
    parity: ParityReport
    notices: list[str]
    seconds: float


class ModelExportResult(TypedDict):
    """What an export leaves, whole: a folder beneath the home folder's exports."""

    form: str
    gguf: str | None  # of ollama: the form of its file
    name: str  # of the folder, and of the zip without its ending
    folder: str  # beneath the home folder
    bytes: int  # of all files
    model_bytes: int  # of the weights alone
    source_bytes: int  # of the whole weights in 16 bits, with which sizes are compared
    files: list[VersionFile]
    zip: str | None  # name of the zip file in exports
    hub: str | None  # address of the repository it was pushed to
    parity: ParityReport
    notices: list[str]  # what a reader should know
    seconds: float


class ModelExportRow(TypedDict):
    """A row of `model_export`."""

    job_id: str
    subject: Literal["run", "version"]
    name: str  # of the run or version, as it was
    run_id: str | None
    model_id: str | None
    version: int | None
    checkpoint: str
    form: str
    gguf: str | None
    folder: str
    bytes: int
    model_bytes: int
    source_bytes: int
    files: list[VersionFile]
    zip: str | None
    hub: str | None
    status: ParityStatus
    parity: ParityReport
    notices: list[str]
    tokens_per_second: float | None
    created_by: str | None
    created_at: datetime


class ToolState(TypedDict):
    """What some forms need that is not there, by form; a form that is not named can be made."""

    missing: dict[str, str]  # form -> what to do
    folder: NotRequired[str]  # of the converter
