"""Exported models: what the model card is written from, whether the export agrees with the evaluated model,
the manifest of its content, and its row in the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NotRequired, TypedDict

from store.core.figure_schemas import BiasReport, Difference, Estimate, FigureSummary, Gain
from store.core.model_schemas import BaseReference, TrainingSummary, VersionFile
from store.core.schemas import ConfigDocument


class CardData(TypedDict):
    """A version of the data set that a model was trained on."""

    name: str
    hub_id: str | None  # if imported from the hub
    rows: int | None  # null if deleted since
    fingerprint: str
    steps: list[str]  # of the recipe that produced it from the previous version, as text


class CardProbe(TypedDict):
    """Result of a probe of general knowledge, with questions or texts."""

    probe: str
    n: int
    loss: Estimate
    accuracy: Estimate | None  # for questions


class CardVerdict(TypedDict):
    """The verdict of the run."""

    headline: str
    sentences: list[str]
    gain: Gain | None
    gain_unit: str
    forgetting: list[str]  # sentences; empty if not measured
    memorised: list[str]


@dataclass(kw_only=True)
class CardEvaluation:
    """An evaluation of the version."""

    name: str
    dataset: str
    hub_id: str | None  # of the data set, if imported from the hub
    part: str
    n: int
    figures: list[FigureSummary]
    units: dict[str, str]  # metric -> its unit
    probes: list[CardProbe]


class BaseCard(TypedDict):
    """Facts from the base model's card that must not be invented."""

    license: str | None  # identifier of the hub, such as apache-2.0 or other
    license_name: str | None  # for the license `other`
    license_link: str | None
    languages: list[str]


class TrainedModel(TypedDict):
    """The run that produced a model; null or empty where unknown."""

    run: str | None  # name; null for an imported folder
    run_present: bool  # the run still exists
    checkpoint: str | None
    config: ConfigDocument | None  # store.training.train_config.TrainConfig: the requested settings
    course: TrainingSummary | None  # the actual training
    continued_from: str  # name of the run that it continued from, or ""
    mixed: str  # for a mix: a sentence that says of what
    data: list[CardData]  # oldest version first
    verdict: CardVerdict | None
    trainable_parameters: int | None
    total_parameters: int | None
    device: str | None
    versions: dict[str, str]  # of libraries
    seconds: float | None  # duration of the run
    energy_wh: float | None  # null if the machine does not measure it


class ModelCard(TrainedModel):
    """Content of the model card of a version, or of a run's model."""

    reference: str  # NAME@3, or the name of a run
    registered: bool  # the fields below that people write or decide are set for versions only
    intended_use: str  # as written by a person; empty if not written
    notes: str
    base: BaseReference | None  # null for an imported full model
    base_card: BaseCard | None  # null until an export has read it
    adapter: bool
    fingerprint: str  # of the version's files; empty for a run
    created_at: str  # ISO 8601, UTC
    created_by: str
    aliases: list[str]
    evaluations: list[CardEvaluation]
    bias: BiasReport | None
    bias_against: str  # the model that the bias check compared it with; empty if none
    approvals: list[str]  # sentences: who moved which alias to this version, when and why


ParityStatus = Literal["passed", "untold", "warned", "failed"]
PARITY_LABELS: dict[ParityStatus, str] = {
    "passed": "passed",
    "untold": "inconclusive",  # no difference detected, with too few rows
    "warned": "warning",
    "failed": "failed",
}


@dataclass(kw_only=True)
class RenderingExample:
    """The first prompt that two engines render differently, and the first character or token that differs."""

    row_id: int
    place: int
    expected: str
    present: str


@dataclass(kw_only=True)
class RenderingParity:
    """Prompts compared as bytes and as token ids, before any model generates."""

    prompts: int
    other_bytes: int  # prompts whose rendered bytes differ
    other_ids: int
    doubled_bos: int  # prompts that begin with two BOS tokens
    cut: int  # prompts that one of the two truncates
    example: RenderingExample | None


@dataclass(kw_only=True)
class LongPrompts:
    """The longest held-out prompts, and texts of several rows concatenated: position handling that differs
    from training shows here first. Not included in the estimates over sampled rows.
    """

    prompts: int
    tokens: int  # of the longest prompt
    mean_kl: Estimate | None


@dataclass(kw_only=True)
class ParityReport:
    """An export compared with its model on the same held-out prompts, in another process."""

    status: ParityStatus
    reasons: list[str]  # why it is not `passed`: sentences, each with its limit
    engine: str  # engine that loaded the export, with its version
    rendering: RenderingParity
    prompts: int  # sampled at random
    positions: int  # token positions whose distributions were compared
    long: LongPrompts | None  # null for a classifier
    mean_kl: Estimate | None  # nats per token, KL(model || export); null if no prompt is identical
    largest_kl: float | None
    argmax_agreement: Estimate | None
    answer_agreement: Estimate | None  # greedy responses that are identical to the last token
    figures: list[Difference]  # the evaluation's metrics, export minus model
    tokens_per_second: float | None
    seconds: float


@dataclass(kw_only=True)
class ExportedVersion:
    """What a worker needs of a registered version (`ModelVersion`)."""

    model_id: str
    name: str
    version: int
    run_id: str | None
    folder: str  # relative to the home folder


@dataclass(kw_only=True)
class ExportSpec:
    """Input of the worker about the subject, in addition to the config."""

    run_id: str | None  # run of the model or of the version; null for an imported folder
    run_name: str | None
    version: ExportedVersion | None  # null if a run is exported
    card: ModelCard  # of the run's model or the version, as known at the time of export


class StoredManifest(TypedDict):
    """The manifest of an earlier export of the subject, as recorded in the store."""

    form: str
    gguf: str | None
    folder: str  # of the export, relative to the home folder
    sha256: str  # of its manifest.json


class VerifySpec(TypedDict):
    """What to verify, and the recorded exports of the same model."""

    path: str
    gguf: str  # for format ollama, if the format was specified: that of its GGUF file
    manifests: list[StoredManifest]


@dataclass(kw_only=True)
class ModelVerifyResult:
    """Result of comparing a folder or file with its model again. It stays in the row of its job."""

    form: str
    path: str
    subject: str  # name of the run, or NAME@3
    parity: ParityReport
    notices: list[str]
    seconds: float


@dataclass(kw_only=True)
class ModelExportResult:
    """Result of an export: a complete folder below the home folder's exports."""

    form: str
    gguf: str | None  # for ollama: the format of its GGUF file
    name: str  # of the folder, and of the zip file without its extension
    folder: str  # relative to the home folder
    bytes: int  # of all files
    model_bytes: int  # of the weights only
    source_bytes: int  # of the full weights in 16 bits, for comparing sizes
    files: list[VersionFile]
    zip: str | None  # name of the zip file in exports
    hub: str | None  # URL of the repository it was pushed to
    parity: ParityReport
    notices: list[str]  # notes for readers
    seconds: float


@dataclass(kw_only=True)
class ModelExportRow:
    """A row of `model_export`."""

    job_id: str
    subject: Literal["run", "version"]
    name: str  # of the run or version at that time
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


class ToolAvailability(TypedDict):
    """Missing tools by export format; a format that is not listed is available."""

    missing: dict[str, str]  # format -> what to do
    folder: NotRequired[str]  # of the converter


class TensorChecksum(TypedDict):
    """A tensor as stored in a file."""

    dtype: str  # as named by the file format
    shape: list[int]
    sha256: str  # of its bytes


class BaseFingerprint(TypedDict):
    """The base model of an adapter."""

    name: str  # public name
    revision: str | None
    sha256: str  # over the names and checksums of its tensors


class WrittenWeights(TypedDict):
    """The weight files, tensor by tensor."""

    tensors: dict[str, TensorChecksum]
    settings: dict[
        str, str
    ]  # other content: fields of a GGUF file, quantization settings; long values by SHA-256


class ExportManifest(WrittenWeights):
    """All weights, with the base model they depend on."""

    form: str
    base: BaseFingerprint | None  # null for full weights
