"""Models as they lie in the home folder: found there, saved by a run, or registered as a version."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NotRequired, TypedDict


class GenerationNamed(TypedDict, total=False):
    """What a model's generation_config.json says of how its answers are drawn, as transformers names it; only
    what is of the right type."""

    do_sample: bool
    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    max_new_tokens: int


@dataclass(kw_only=True)
class Model:
    """One of `GET /models`: a folder of the home folder's models."""

    name: str
    path: str
    parameters: int | None  # counted so far where weight files are missing
    architecture: str | None
    bytes: int
    generation: GenerationNamed
    ready: bool  # config, every weight file and a tokenizer are there and readable


class BaseReference(TypedDict):
    """A base model as any machine can know it: never by a path."""

    name: str  # the hub id, or the plain name of a folder
    hub_id: str | None  # null where nobody knows whether a hub has it
    revision: str | None  # the commit that was loaded


StopReason = Literal["epochs", "max_steps", "early_stopping", "forgetting", "mixed"]
STOPPED_EARLY: frozenset[StopReason] = frozenset({"early_stopping", "forgetting"})
TrainingEnd = (
    StopReason | Literal["unfinished"]
)  # unfinished: a checkpoint of a run that was ended from outside


class TrainingSummary(TypedDict):
    """What training did, up to the weights that the model has; what was asked for stands beside it."""

    step: int  # whose weights they are
    last_step: int  # that was made
    rows: int  # that the optimiser saw up to `step`; one that came again in a later epoch counts again
    train_rows: int  # of the training part
    steps_per_epoch: int
    asked_epochs: float | None
    asked_steps: int | None  # the limit of steps; null where none was set
    reason: TrainingEnd
    attempts: int  # 1: in one go; more: it was resumed


class ModelOrigin(TypedDict, total=False):
    """Where a model comes from, beside its base."""

    base: BaseReference  # what the files belong to; runs from before lack it
    dataset: str  # whose rows it was trained on, by its name then
    continued_from: str | None  # the run that it went on from
    init_mode: str | None  # how: stack or merge
    own_base: bool  # its adapter belongs to the model in the job's folder `base/`, not to `base_model`
    mixed_from: str  # of a mix: the run of whose model
    calls: bool  # rows of that data set call functions; older runs lack it
    alpha: float  # of a mix: the share of the way from the base
    course: TrainingSummary  # of a run that trained; runs from before lack it


class ModelNote(ModelOrigin):
    """`tunebench.json` in the folder of a tuned model."""

    base_model: str  # its name: of a local folder without the path
    labels: NotRequired[list[str]]  # of a classifier, in their order
    method: str  # of store.training.methods
    adapter: bool  # an adapter, and not whole weights
    held: Literal["", "nf4", "int8"]  # how the base model was held while it was trained
    merges: bool  # the adapter can be merged into its base


@dataclass(kw_only=True)
class VersionFile:
    """A file of a version's folder, by its path in it."""

    path: str
    bytes: int
    sha256: str
    modified_ns: int | None = None  # when it was written, Unix time: another one is reason to hash it again


class VersionSeal(TypedDict):
    """The file NUMBER.json beside a version's folder: what a worker knows of it."""

    reference: str  # NAME@NUMBER
    job_id: str  # that made it
    files: list[VersionFile]


class RegisteredFiles(TypedDict):
    """What the job `register` leaves in its folder, before it is given its number."""

    base_model: str | None
    adapter: bool
    fingerprint: str
    files: list[VersionFile]
    notices: list[str]


@dataclass(kw_only=True)
class VersionSource:
    """What was registered: what a run left (`checkpoint`: tuned, best or newest), or a folder as it was."""

    kind: Literal["run", "folder"]
    run_id: str | None
    run_name: str | None  # as it was
    checkpoint: str | None
    path: str | None  # of an imported folder


@dataclass(kw_only=True)
class ModelVersion:
    """A row of `model_version`, with the name of its model. A version is never changed: `files` is what its
    folder has to hold."""

    model_id: str
    name: str  # of the model
    version: int  # 1 is the first
    source: VersionSource
    run_id: str | None
    base_model: str | None  # name or hub id of what an adapter belongs to; null for an imported whole model
    adapter: bool  # an adapter, and not whole weights
    folder: str  # beneath the home folder
    fingerprint: str  # SHA-256 over paths and checksums of all files
    files: list[VersionFile]
    notes: str
    created_by: str  # a person's id
    created_by_name: str  # as it was
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
    bytes: int | None  # of all files; null where it was not asked for
    run_present: bool  # the run that it came from is still there


@dataclass(kw_only=True)
class ModelSummary:
    """A registered model in a list."""

    model_id: str
    name: str
    description: str
    created_by_name: str
    created_at: datetime
    versions: int
    newest: int | None  # its number; null where all were deleted
    newest_at: datetime | None
    production: int | None  # the version that holds the alias production


@dataclass(kw_only=True)
class AliasState:
    """Where an alias stands."""

    alias: str
    version: int
    moved_at: datetime
