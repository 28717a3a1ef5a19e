"""A run as one file that leaves the house, and what came of running it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from store.core.figure_schemas import Estimate
from store.core.model_schemas import BaseReference, VersionFile
from store.core.row_schemas import Kind, RowsResult
from store.core.schemas import ConfigDocument
from store.evaluation.verdict_schemas import RunFigure, Verdict
from store.jobs.schemas import AuxiliaryDataset, SplitFields, VersionSpec
from store.runs.schemas import RunFacts

ReproductionOutcome = Literal["same", "within", "outside", "cant_tell"]
BaseStatus = Literal["same", "other", "missing", "unchecked"]


@dataclass(kw_only=True)
class BundledRun:
    """The run that was bundled."""

    run_id: str
    name: str
    created_at: str  # ISO 8601, UTC
    kind: str  # of store.core.job_kinds


class BaseWeights(BaseReference):
    """A base model and what its weights are."""

    fingerprint: str | None  # SHA-256 over the checksums of its weight files; null where they aren't here
    tokenizer: str | None  # SHA-256 of tokenizer.json
    files: list[VersionFile]  # of weights


@dataclass(kw_only=True)
class BundledRows:
    """The rows that a run was trained and judged on, or how they were made."""

    name: str  # of the data set
    kind: Kind
    format: str  # of store.data.formats
    columns: dict[str, str]  # role -> column of the file
    fingerprint: str
    parent_fingerprint: str | None  # of a version: of the one before, which its own covers
    row_count: int
    included: bool  # the rows are in the bundle
    history: list[VersionSpec]  # from the first import, with its source, to this version


@dataclass(kw_only=True)
class BundleEnvironment:
    """Where the run was trained."""

    tunebench: str
    platform: str  # of the machine that wrote the bundle
    versions: dict[str, str]  # Python and the libraries that decide the numbers
    device: str
    device_name: str
    dtype: str


@dataclass(kw_only=True)
class BundleManifest:
    """`manifest.json` of a bundle. No path of the machine that wrote it is in it."""

    format: Literal["tunebench-bundle"]
    version: int  # of this form
    written_at: str  # ISO 8601, UTC
    run: BundledRun
    config: ConfigDocument  # store.training.train_config.TrainConfig, resolved
    facts: RunFacts
    base: BaseWeights
    data: BundledRows
    split: SplitFields  # the rows of each part are in split.parquet
    others: list[AuxiliaryDataset]  # whose rows are never in the bundle
    environment: BundleEnvironment
    figures: list[RunFigure]
    verdict: Verdict
    files: list[VersionFile]  # all but the manifest and its seal


@dataclass(kw_only=True)
class BundleSeal:
    """`seal.json` of a bundle: what its manifest was when it was written."""

    manifest: str  # SHA-256 of manifest.json, which has the checksums of all other files
    fields: dict[
        str, str
    ]  # path of each field -> the beginning of the SHA-256 of its value, to name a change


@dataclass(kw_only=True)
class FieldDifference:
    """A field that is another in a bundle than in the run of this home."""

    field: str
    bundle: str
    here: str


@dataclass(kw_only=True)
class LocalOriginal:
    """The run that a bundle says it is of, where it is in this home too."""

    run_id: str
    name: str  # as it is called now
    written_here: bool  # this home wrote a bundle of the very same fingerprint
    differences: list[FieldDifference]  # between what the bundle says of the run and what the run is
    more: int  # differences that are not listed


@dataclass(kw_only=True)
class BundleResult:
    """What the job `bundle` leaves."""

    path: str  # of the file in the home folder's exports
    name: str
    bytes: int
    with_rows: bool
    seal: str | None = None  # its fingerprint, to be compared by voice or mail
    notices: list[str]  # what a reader of the bundle will lack


@dataclass(kw_only=True)
class BundleDifference:
    """What is another here than where the bundle comes from."""

    what: str
    first: str
    here: str


@dataclass(kw_only=True)
class OpenedBundle:
    """What the job `open_bundle` leaves: a bundle that was checked, its rows taken in."""

    bundle: str  # name of the file
    sha256: str  # of the file
    seal: str | None = None  # its fingerprint, whatever the packing
    original: LocalOriginal | None = None  # left out where that run is not in this home
    run: BundledRun
    config: ConfigDocument  # with the model as it is called here
    fingerprint: str  # of the rows
    taken: RowsResult | None = None  # the rows that it brought; null where they were here before
    dataset: str  # the name that they get
    split: SplitFields
    base: BaseStatus
    others: list[AuxiliaryDataset]
    differences: list[BundleDifference]
    refused: str | None = None  # why it can't be run again


@dataclass(kw_only=True)
class ReproducedFigure:
    """A figure of the first run and of the second."""

    key: str
    title: str
    unit: str
    first: Estimate | None
    second: Estimate | None
    change: Estimate | None  # second minus first
    paired: bool  # row by row; else as of independent samples
    came: ReproductionOutcome
    sentence: str


@dataclass(kw_only=True)
class ComparisonLine:
    """One thing of the original run and of the run that repeats it."""

    what: str
    first: str
    second: str
    same: bool | None  # null where it can't be told
    detail: str  # within which tolerance, or where it parts; may be empty


LOSS_TOLERANCE = 0.001  # nats a token at one step, up to which two losses are the same


@dataclass(kw_only=True)
class OriginalComparison:
    """A run beside the original that it repeats, which is in the same home."""

    run_id: str
    name: str
    sentence: str
    lines: list[ComparisonLine]


@dataclass(kw_only=True)
class Reproduction:
    """Whether the figures of a bundle came back."""

    bundle: str
    sentence: str
    same: int  # figures
    within: int
    outside: int
    cant_tell: int
    figures: list[ReproducedFigure]
    differences: list[BundleDifference]
    beside: OriginalComparison | None = None  # left out where the original run is not in this home
