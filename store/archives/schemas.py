"""Bundles of runs as single files, and the results of reproducing them."""

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
    """The run in a bundle."""

    run_id: str
    name: str
    created_at: str  # ISO 8601, UTC
    kind: str  # a kind of store.core.job_kinds


class BaseWeights(BaseReference):
    """A base model with checksums of its weights."""

    fingerprint: str | None  # SHA-256 over the checksums of its weight files; null if they aren't available
    tokenizer: str | None  # SHA-256 of tokenizer.json
    files: list[VersionFile]  # weight files


@dataclass(kw_only=True)
class BundledRows:
    """The rows that a run was trained and evaluated on, or how they were made."""

    name: str  # name of the data set
    kind: Kind
    format: str  # a format of store.data.formats
    columns: dict[str, str]  # role -> column of the file
    fingerprint: str
    parent_fingerprint: str | None  # for a version, that of its parent, which its own fingerprint covers
    row_count: int
    included: bool  # whether the rows are in the bundle
    history: list[VersionSpec]  # from the first import, with its source, to this version


@dataclass(kw_only=True)
class BundleEnvironment:
    """Environment in which the run was trained."""

    tunebench: str
    platform: str  # platform of the machine that wrote the bundle
    versions: dict[str, str]  # Python and the libraries that affect the numbers
    device: str
    device_name: str
    dtype: str


@dataclass(kw_only=True)
class BundleManifest:
    """`manifest.json` of a bundle. It contains no path of the machine that wrote it."""

    format: Literal["tunebench-bundle"]
    version: int  # version of the bundle format
    written_at: str  # ISO 8601, UTC
    run: BundledRun
    config: ConfigDocument  # store.training.train_config.TrainConfig, resolved
    facts: RunFacts
    base: BaseWeights
    data: BundledRows
    split: SplitFields  # the rows of each part are in split.parquet
    others: list[AuxiliaryDataset]  # data sets whose rows are never in the bundle
    environment: BundleEnvironment
    figures: list[RunFigure]
    verdict: Verdict
    files: list[VersionFile]  # all files except the manifest and its seal


@dataclass(kw_only=True)
class BundleSeal:
    """`seal.json` of a bundle: checksums of its manifest when it was written."""

    manifest: str  # SHA-256 of manifest.json, which contains the checksums of all other files
    fields: dict[str, str]  # field path -> truncated SHA-256 of its value, to locate changes


@dataclass(kw_only=True)
class FieldDifference:
    """A field that differs between a bundle and the run in this home."""

    field: str
    bundle: str
    here: str


@dataclass(kw_only=True)
class LocalOriginal:
    """The run that a bundle claims to be of, if it exists in this home."""

    run_id: str
    name: str  # present name
    written_here: bool  # whether this home wrote a bundle with the same fingerprint
    differences: list[FieldDifference]  # between the bundle and the run
    more: int  # number of differences not listed


@dataclass(kw_only=True)
class BundleResult:
    """Result of the job `bundle`."""

    path: str  # path of the file in the home folder's exports
    name: str
    bytes: int
    with_rows: bool
    seal: str | None = None  # its fingerprint, to be compared by phone or mail
    notices: list[str]  # what is missing in the bundle


@dataclass(kw_only=True)
class BundleDifference:
    """A difference between this home and the bundle's origin."""

    what: str
    first: str
    here: str


@dataclass(kw_only=True)
class OpenedBundle:
    """Result of the job `open_bundle`: a verified bundle whose rows have been imported."""

    bundle: str  # file name
    sha256: str  # SHA-256 of the file
    seal: str | None = None  # its fingerprint, independent of the compression
    original: LocalOriginal | None = None  # missing if that run isn't in this home
    run: BundledRun
    config: ConfigDocument  # with the model's name on this machine
    fingerprint: str  # fingerprint of the rows
    taken: RowsResult | None = None  # the imported rows; null if they existed before
    dataset: str  # name of their data set
    split: SplitFields
    base: BaseStatus
    others: list[AuxiliaryDataset]
    differences: list[BundleDifference]
    refused: str | None = None  # why it can't be run


@dataclass(kw_only=True)
class ReproducedFigure:
    """A figure of the first and of the second run."""

    key: str
    title: str
    unit: str
    first: Estimate | None
    second: Estimate | None
    change: Estimate | None  # second minus first
    paired: bool  # whether compared row by row, else as independent samples
    came: ReproductionOutcome
    sentence: str


@dataclass(kw_only=True)
class ComparisonLine:
    """A property of the original run and of its repetition."""

    what: str
    first: str
    second: str
    same: bool | None  # null if inconclusive
    detail: str  # the tolerance, or where they diverge; may be empty


LOSS_TOLERANCE = 0.001  # nats per token at one step; losses closer than this count as equal


@dataclass(kw_only=True)
class OriginalComparison:
    """Comparison of a run with the original that it repeats, in the same home."""

    run_id: str
    name: str
    sentence: str
    lines: list[ComparisonLine]


@dataclass(kw_only=True)
class Reproduction:
    """Whether the figures of a bundle were reproduced."""

    bundle: str
    sentence: str
    same: int  # number of figures
    within: int
    outside: int
    cant_tell: int
    figures: list[ReproducedFigure]
    differences: list[BundleDifference]
    beside: OriginalComparison | None = None  # missing if the original run isn't in this home
