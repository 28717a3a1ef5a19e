"""Models in the home folder: found there, saved by a run, or registered as a version."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NotRequired, TypedDict


class GenerationNamed(TypedDict, total=False):
    """Sampling settings in a model's generation_config.json, with the names of transformers; only values of
    the right type.
    """

    do_sample: bool
    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    max_new_tokens: int


@dataclass(kw_only=True)
class Model:
    """An item of `GET /models`: a folder in the home folder's models."""

    name: str
    path: str
    parameters: int | None  # a partial count if weight files are missing
    architecture: str | None
    bytes: int
    generation: GenerationNamed
    ready: bool  # config, all weight files and a tokenizer exist and are readable


class BaseReference(TypedDict):
    """A base model as it can be identified on any machine: never by a path."""

    name: str  # hub id, or name of a folder without its path
    hub_id: str | None  # null if it is unknown whether a hub has it
    revision: str | None  # the commit that was loaded


StopReason = Literal["epochs", "max_steps", "early_stopping", "forgetting", "mixed"]
STOPPED_EARLY: frozenset[StopReason] = frozenset({"early_stopping", "forgetting"})
TrainingEnd = (
    StopReason | Literal["unfinished"]
)  # unfinished: a checkpoint of a run that was ended externally


class TrainingSummary(TypedDict):
    """The actual training up to the model's weights, next to the requested settings."""

    step: int  # step of the weights
    last_step: int  # last step taken
    rows: int  # seen by the optimizer up to `step`; repeats in later epochs count again
    train_rows: int  # in the training split
    steps_per_epoch: int
    asked_epochs: float | None
    asked_steps: int | None  # limit of steps; null if not set
    reason: TrainingEnd
    attempts: int  # 1: without interruption; more: resumed


class ModelOrigin(TypedDict, total=False):
    """Where a model comes from, in addition to its base."""

    base: BaseReference  # the model that the files belong to; older runs lack it
    dataset: str  # training data set, by its name at that time
    continued_from: str | None  # the run that it continued from
    init_mode: str | None  # how: stack or merge
    own_base: bool  # the adapter belongs to the model in the job's folder `base/`, not to `base_model`
    mixed_from: str  # for a mix: the run whose model was mixed
    calls: bool  # rows of that data set contain function calls; older runs lack it
    alpha: float  # for a mix: interpolation factor, 0 at the base
    course: TrainingSummary  # for a run that trained; older runs lack it


class ModelNote(ModelOrigin):
    """`tunebench.json` in the folder of a tuned model."""

    base_model: str  # name; of a local folder without the path
    labels: NotRequired[list[str]]  # of a classifier, in output order
    method: str  # of store.training.methods
    adapter: bool  # an adapter, not full weights
    held: Literal["", "nf4", "int8"]  # quantization of the base model during training
    merges: bool  # the adapter can be merged into its base


@dataclass(kw_only=True)
class VersionFile:
    """A file in the folder of a version, with its relative path."""

    path: str
    bytes: int
    sha256: str
    modified_ns: int | None = None  # modification time, Unix time; if it differs, the file is hashed again


class VersionSeal(TypedDict):
    """The file NUMBER.json next to a version's folder: what a worker knows about it."""

    reference: str  # NAME@NUMBER
    job_id: str  # job that created it
    files: list[VersionFile]


class RegisteredFiles(TypedDict):
    """What the job `register` leaves in its folder, before the version gets its number."""

    base_model: str | None
    adapter: bool
    fingerprint: str
    files: list[VersionFile]
    notices: list[str]


@dataclass(kw_only=True)
class VersionSource:
    """What was registered: output of a run (`checkpoint`: tuned, best or newest), or a folder as it was."""

    kind: Literal["run", "folder"]
    run_id: str | None
    run_name: str | None  # name at that time
    checkpoint: str | None
    path: str | None  # of an imported folder


@dataclass(kw_only=True)
class ModelVersion:
    """Row of `model_version`, with the name of its model. Versions are immutable: `files` is what the folder
    must contain.
    """

    model_id: str
    name: str  # of the model
    version: int  # 1 is the first
    source: VersionSource
    run_id: str | None
    base_model: str | None  # name or hub id of an adapter's base model; null for an imported full model
    adapter: bool  # an adapter, not full weights
    folder: str  # relative to the home folder
    fingerprint: str  # SHA-256 over paths and checksums of all files
    files: list[VersionFile]
    notes: str
    created_by: str  # a person's id
    created_by_name: str  # name at that time
    created_at: datetime


@dataclass(kw_only=True)
class VersionSummary:
    """A version in a list, without its files."""

    model_id: str
    name: str
    version: int
    source: VersionSource
    run_id: str | None
    base_model: str | None
    adapter: bool
    fingerprint: str
    notes: str
    created_by: str
    created_by_name: str
    created_at: datetime
    aliases: list[str]
    bytes: int | None  # of all files; null if not requested
    run_present: bool  # the run that it came from still exists


@dataclass(kw_only=True)
class ModelSummary:
    """A registered model in a list."""

    model_id: str
    name: str
    description: str
    created_by_name: str
    created_at: datetime
    versions: int
    newest: int | None  # number of the newest version; null if all were deleted
    newest_at: datetime | None
    production: int | None  # version with the alias production


@dataclass(kw_only=True)
class AliasState:
    """Current target of an alias."""

    alias: str
    version: int
    moved_at: datetime
