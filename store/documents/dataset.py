"""Data sets and their versions: rows of the store, what an import counted, what was measured, what became of
rows."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict

from store.documents.job import SplitFields

Fate = Literal["kept", "changed", "dropped", "added"]


class Spread(TypedDict):
    """How a size is spread over the rows."""

    min: float
    median: float
    p95: float
    max: float


class Duplicates(TypedDict):
    """Rows that an earlier row equals."""

    exact: int
    folded: int  # in NFKC, lower case, white space folded


class ImportStats(TypedDict):
    """What an import, or a recipe, counted while it wrote the rows."""

    characters: Spread  # of the text
    turns: Spread  # of the conversation; 0 for plain text
    duplicates: NotRequired[Duplicates]  # not counted before there was this figure
    labels: dict[str, int]  # rows of the 20 most frequent
    label_count: int
    skipped_reasons: dict[str, int]  # reason -> rows of the file
    reader: str  # csv, json, …; "recipe" of a version that a recipe made
    encoding: str
    answers: NotRequired[str | None]  # how answers name their choices; of an import, as all below
    values: NotRequired[dict[str, str]]  # value of the file -> what it means
    ignored: NotRequired[list[str]]  # columns of which nothing is used, the first 200
    ignored_count: NotRequired[int]
    parts: NotRequired[dict[str, int]]  # train, validation, test -> rows, as the file gives them
    notices: list[str]  # sentences


class RecipeDocument(TypedDict):
    """A recipe as it is stored (`store.config.recipe.Recipe`)."""

    steps: list[dict[str, Any]]  # each with `step`, its kind, and the fields of that kind


class StepCounts(TypedDict):
    """What a step of a recipe did with the rows that it met."""

    title: str
    rows_in: int
    changed: int
    dropped: int
    added: int
    rows_out: int


class Fates(TypedDict):
    """What became of the rows of the version before, and of those that were mixed in."""

    kept: int
    changed: int
    dropped: int
    added: int
    steps: list[StepCounts]


class Dataset(SplitFields):
    """A row of table `dataset`, with the absolute paths of its files."""

    dataset_id: str
    name: str
    kind: Literal["chat", "text", "preference"]
    format: str  # of store.catalog.formats
    columns: dict[str, str]  # role -> column of the file
    source: dict[str, Any]  # store.config.import_config.Source
    fingerprint: str  # of the rows; names their folder
    row_count: int
    skipped_count: int
    duplicate_count: int  # rows whose text an earlier row already has
    source_bytes: int
    stats: ImportStats
    created_at: datetime  # naive UTC
    parent_id: str | None  # the version that the recipe was run on
    recipe: RecipeDocument | None  # null for an import
    fates: Fates | None  # null for an import
    rows_path: str  # rows.parquet
    skipped_path: str  # skipped.parquet


class ImportResult(TypedDict):
    """The result of an import, and of a cleaning, which has `fates` too."""

    fingerprint: str
    kind: Literal["chat", "text", "preference"]
    format: str
    columns: dict[str, str]
    row_count: int
    skipped_count: int
    duplicate_count: int
    source_bytes: int
    stats: ImportStats
    split_by: NotRequired[str]  # "given" where the file says the parts
    fates: NotRequired[Fates]


class ExportResult(TypedDict):
    """The result of an export."""

    path: str
    card_path: str  # of the data card beside it
    name: str  # of the file, as GET /exports/NAME takes it
    rows: int
    format: str
    notices: list[str]


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
    messages: list[dict[str, str]] | None  # role and content of each turn; null for plain text
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


class VersionRow(TypedDict):
    """What two versions are compared by."""

    messages: list[dict[str, str]] | None
    text: str
    label: str | None
    rejected: str | None


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
    before: VersionRow | None
    after: VersionRow | None


class ComparedVersions(TypedDict):
    """Two versions of a family row by row."""

    counts: dict[str, int]  # fate -> rows
    total: int  # rows of the fate that was asked for
    rows: list[ComparedRow]


class SignalRow(TypedDict):
    """A row of table `signal`: a group of signals that was measured for the rows of a data set."""

    fingerprint: str  # of the rows
    name: str  # of store.catalog.signals.GROUPS
    version: int
    options: dict[str, Any]  # model, max_length, … it was measured with
    row_count: int  # measured; fewer than the data set's where it is a sample
    reused_count: int  # taken over from the version before
    figures: dict[str, SignalFigures]  # column -> figures; "set.NAME" of the set as a whole
    seconds: float
    computed_at: datetime
    path: str  # of the sidecar
    outdated: bool  # measured by an older version of the group


class SignalFigures(TypedDict):
    """Figures of one measured column, by its type; `n` counts the rows that were measured."""

    n: NotRequired[int]
    min: NotRequired[float | None]  # number: null with no row measured, as the next four
    mean: NotRequired[float | None]
    median: NotRequired[float | None]
    p95: NotRequired[float | None]
    max: NotRequired[float | None]
    positive: NotRequired[int]  # number: rows above 0
    flagged: NotRequired[int]  # flag
    distinct: NotRequired[int]  # category
    values: NotRequired[dict[str, int]]  # category: rows of the 20 most frequent
    groups: NotRequired[int]  # group
    rows: NotRequired[int]  # group: rows in groups
    extra: NotRequired[int]  # group: rows beyond the first
    value: NotRequired[float | None]  # of the set as a whole


class ProfileResult(TypedDict):
    """The result of measuring a group of signals."""

    options: dict[str, Any]
    row_count: int
    reused_count: int
    seconds: float
    figures: dict[str, SignalFigures]


class RecipeRow(TypedDict):
    """A recipe that somebody saved."""

    recipe_id: str
    name: str
    steps: list[dict[str, Any]]
    created_at: datetime


class SliceRow(TypedDict):
    """Rows of a data set that somebody named."""

    name: str
    filter: dict[str, Any]  # store.config.filters.Filter
    created_at: datetime
