"""A model in the form in which it left: what its card is written from, whether it answers as the model
that was evaluated, what the export holds and the row of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NotRequired, TypedDict

from store.core.figure_schemas import BiasReport, Difference, Estimate, FigureSummary, Gain
from store.core.model_schemas import BaseReference, TrainingSummary, VersionFile
from store.core.schemas import ConfigDocument


class CardData(TypedDict):
    """A version of the data that a model was trained on."""

    name: str
    hub_id: str | None  # where it came from the hub
    rows: int | None  # null where it was deleted since
    fingerprint: str
    steps: list[str]  # of the recipe that made it of the one before, in words


class CardProbe(TypedDict):
    """What the model knows of general questions or texts."""

    probe: str
    n: int
    loss: Estimate
    accuracy: Estimate | None  # of questions


class CardVerdict(TypedDict):
    """What the verdict of its run says."""

    headline: str
    sentences: list[str]
    gain: Gain | None
    gain_unit: str
    forgetting: list[str]  # sentences; empty where it was not measured
    memorised: list[str]


@dataclass(kw_only=True)
class CardEvaluation:
    """An evaluation of the version."""

    name: str
    dataset: str
    hub_id: str | None  # of the data set, where it came from the hub
    part: str
    n: int
    figures: list[FigureSummary]
    units: dict[str, str]  # metric -> its unit
    probes: list[CardProbe]


class BaseCard(TypedDict):
    """What the card of the base model states, and nobody else may make up."""

    license: str | None  # an identifier of the hub, as apache-2.0 or other
    license_name: str | None  # of the license `other`
    license_link: str | None
    languages: list[str]


class TrainedModel(TypedDict):
    """Of the run that a model came from; null or empty where that is not known."""

    run: str | None  # its name; null for an imported folder
    run_present: bool  # it was not deleted since
    checkpoint: str | None
    config: ConfigDocument | None  # store.training.train_config.TrainConfig: what was asked for
    course: TrainingSummary | None  # what training did
    continued_from: str  # name of the run that it went on from, or ""
    mixed: str  # of a mix: the sentence that says of what
    data: list[CardData]  # the first version first
    verdict: CardVerdict | None
    trainable_parameters: int | None
    total_parameters: int | None
    device: str | None
    versions: dict[str, str]  # of libraries
    seconds: float | None  # that the run took
    energy_wh: float | None  # null where the machine does not count it


class ModelCard(TrainedModel):
    """Of one version, or of what a run left."""

    reference: str  # NAME@3; of a run its name
    registered: bool  # what stands below of people is of versions alone
    intended_use: str  # as a person wrote it; empty where nobody did
    notes: str
    base: BaseReference | None  # null for an imported whole model
    base_card: BaseCard | None  # null until an export has looked
    adapter: bool
    fingerprint: str  # of the version's files; empty for a run
    created_at: str  # ISO 8601, UTC
    created_by: str
    aliases: list[str]
    evaluations: list[CardEvaluation]
    bias: BiasReport | None
    bias_against: str  # the model that the bias check held it against; empty where there is none
    approvals: list[str]  # sentences: who moved which alias here, when, why


ParityStatus = Literal["passed", "untold", "warned", "failed"]
PARITY_LABELS: dict[ParityStatus, str] = {
    "passed": "passed",
    "untold": "inconclusive",  # nothing was seen, by too few rows
    "warned": "warning",
    "failed": "failed",
}


@dataclass(kw_only=True)
class RenderingExample:
    """The first prompt that two engines read differently, and from which character or token on."""

    row_id: int
    place: int
    expected: str
    present: str


@dataclass(kw_only=True)
class RenderingParity:
    """The prompts as bytes and as token ids, before any model is asked."""

    prompts: int
    other_bytes: int  # prompts whose rendered bytes differ
    other_ids: int
    doubled_bos: int  # prompts that begin with the token of the beginning twice
    cut: int  # prompts that one of the two shortens
    example: RenderingExample | None


@dataclass(kw_only=True)
class LongPrompts:
    """The longest held-out prompts, and texts of several rows put together: where positions are counted in
    another way than in training, it shows there first. Not in the estimates over drawn rows."""

    prompts: int
    tokens: int  # of the longest
    mean_kl: Estimate | None


@dataclass(kw_only=True)
class ParityReport:
    """An export beside its model, on the same held-out prompts, in another process."""

    status: ParityStatus
    reasons: list[str]  # each a sentence, with its limit; why it is not `passed`
    engine: str  # that read the export, with its version
    rendering: RenderingParity
    prompts: int  # drawn at random
    positions: int  # tokens whose distributions were compared
    long: LongPrompts | None  # null for a model that classifies
    mean_kl: Estimate | None  # nats a token, from the model to its export; null where no prompt is the same
    largest_kl: float | None
    argmax_agreement: Estimate | None
    answer_agreement: Estimate | None  # greedy answers that are the same to the last token
    figures: list[Difference]  # the evaluation's metrics, export minus model
    tokens_per_second: float | None
    seconds: float


@dataclass(kw_only=True)
class ExportedVersion:
    """What a worker has to know of a registered version (`ModelVersion`)."""

    model_id: str
    name: str
    version: int
    run_id: str | None
    folder: str  # beneath the home folder


@dataclass(kw_only=True)
class ExportSpec:
    """What the worker is told of the subject beside the config."""

    run_id: str | None  # whose model it is, or of which the version was made; null for an imported folder
    run_name: str | None
    version: ExportedVersion | None  # null where a run is exported
    card: ModelCard  # of the run's model or the version, as it is known when it is exported


class StoredManifest(TypedDict):
    """The manifest of an export that was made of a subject, as the store knows it."""

    form: str
    gguf: str | None
    folder: str  # of the export, beneath the home folder
    sha256: str  # of its manifest.json


class VerifySpec(TypedDict):
    """What is to be verified, and what the store knows of exports of the same model."""

    path: str
    gguf: str  # of the form ollama, where the form was told: which file it was given
    manifests: list[StoredManifest]


@dataclass(kw_only=True)
class ModelVerifyResult:
    """What came of holding a folder or file against a model again. It stays in the row of its job."""

    form: str
    path: str
    subject: str  # the run's name, or NAME@3
    parity: ParityReport
    notices: list[str]
    seconds: float


@dataclass(kw_only=True)
class ModelExportResult:
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


@dataclass(kw_only=True)
class ModelExportRow:
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


class ToolAvailability(TypedDict):
    """What some forms need that is not there, by form; a form that is not named can be made."""

    missing: dict[str, str]  # form -> what to do
    folder: NotRequired[str]  # of the converter


class TensorChecksum(TypedDict):
    """A tensor as it lies in a file."""

    dtype: str  # as the file's format names it
    shape: list[int]
    sha256: str  # of its bytes


class BaseFingerprint(TypedDict):
    """The model beneath an adapter."""

    name: str  # by which others know it
    revision: str | None
    sha256: str  # over names and checksums of its tensors


class WrittenWeights(TypedDict):
    """The files of weights, tensor by tensor."""

    tensors: dict[str, TensorChecksum]
    settings: dict[
        str, str
    ]  # beside them: fields of a GGUF file, how weights were quantised; long ones by SHA-256


class ExportManifest(WrittenWeights):
    """All of it, with what it stands on."""

    form: str
    base: BaseFingerprint | None  # null for whole weights
