"""Data sets and their versions: rows of the store, and rows of data beside each other."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NotRequired, TypedDict

from store.documents.data.fates import Fate, FateCounts, Fates
from store.documents.data.import_result import ImportStats
from store.documents.data.row import Kind, Message, RowContents
from store.documents.data.signal_figures import SignalFigure, SignalOptions
from store.documents.data.source import SourceDocument
from store.documents.tables.job_order import RecipeDocument, SplitFields


class NewDataset(SplitFields):
    """A data set as it is recorded: a row of table `dataset`."""

    dataset_id: str
    name: str
    kind: Kind
    format: str  # of store.catalog.formats
    columns: dict[str, str]  # role -> column of the file
    source: SourceDocument
    fingerprint: str  # of the rows; names their folder
    row_count: int
    skipped_count: int
    duplicate_count: int  # rows whose text an earlier row already has
    source_bytes: int
    stats: ImportStats
    created_at: datetime  # naive UTC
    created_by: str | None  # who imported it or made the version; null where nobody knows
    parent_id: str | None  # the version that the recipe was run on
    recipe: RecipeDocument | None  # null for an import
    fates: Fates | None  # null for an import


class Dataset(NewDataset):
    """A data set with the absolute paths of its files."""

    rows_path: str  # rows.parquet
    skipped_path: str  # skipped.parquet


class ConvertResult(TypedDict):
    """The result of making a bundled model ready."""

    model: str
    path: str
    parameters: int


class RunOfDataset(TypedDict):
    """A run that uses a data set."""

    run_id: str
    name: str
    status: str


class Version(Dataset):
    """A data set in the tree of its family."""

    depth: int  # 0 for the first
    titles: list[str]  # of the recipe's steps
    runs: list[RunOfDataset]


class CanonicalRow(TypedDict):
    """A row of rows.parquet; columns that a data set of before lacks are missing."""

    row_id: int
    line: int  # where it begins in the source file
    messages: list[Message] | None  # null for plain text
    text: str  # of conversations prompt and answer joined
    label: str | None
    rejected: str | None  # of a preference pair the rejected answer
    digest: int
    source: dict[str, Any]  # the row as it stood in the file
    choices: NotRequired[list[str] | None]
    answer_index: NotRequired[int | None]  # from 0
    part: NotRequired[str | None]  # as the file said


class SkippedRow(TypedDict):
    """A row of the source file that was not taken."""

    line: int
    reason: str
    excerpt: str


class RowFate(TypedDict):
    """What became of one row."""

    parent_row_id: int | None  # null for a row that was mixed in
    row_id: int | None  # null where it was dropped
    fate: Fate
    step: int | None  # that dropped or added it, or last changed it; null for kept
    steps: list[int]  # all that changed it
    reason: str | None
    before: str | None  # text in the version before
    after: str | None


class RowFates(TypedDict):
    """A page of fates, with how many there are in all."""

    total: int
    rows: list[RowFate]


class ComparedRow(TypedDict):
    """A row of two versions side by side."""

    fate: Fate
    row_id: int | None
    other_row_id: int | None
    before: RowContents | None
    after: RowContents | None


class ComparedVersions(TypedDict):
    """Two versions of a family row by row."""

    counts: FateCounts
    total: int  # rows of the fate that was asked for
    rows: list[ComparedRow]


class SignalRow(TypedDict):
    """A row of table `signal`: a group of signals that was measured for the rows of a data set."""

    fingerprint: str  # of the rows
    name: str  # of store.catalog.signals.GROUPS
    version: int
    options: SignalOptions
    row_count: int  # measured; fewer than the data set's where it is a sample
    reused_count: int  # taken over from the version before
    figures: dict[str, SignalFigure]  # column -> figures; "set.NAME" of the set as a whole
    seconds: float
    computed_at: datetime
    path: str  # of the sidecar
    outdated: bool  # measured by an older version of the group


class Saved(TypedDict):
    """What somebody saved under a name, which is the owner's alone or shared."""

    name: str
    created_at: datetime  # of this revision
    created_by: str | None  # the owner; null where nobody knows
    saved_by: str  # the name of who saved this revision; empty where nobody knows
    shared: bool
    revision: int  # 1, and more each time it is saved anew


class RecipeRow(Saved):
    """A recipe that somebody saved."""

    recipe_id: str
    steps: list[dict[str, Any]]


class SliceRow(Saved):
    """Rows of a data set that somebody named."""

    slice_id: str
    filter: dict[str, Any]  # store.config.data.filters.Filter
