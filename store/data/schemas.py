"""Data sets and their versions in the store, file inspections, recipe previews, and export results."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NotRequired, TypedDict

from store.core.row_schemas import (
    ConvertedRow,
    Fate,
    FateCounts,
    Fates,
    FieldIssue,
    ImportStats,
    Kind,
    Message,
    RowContents,
    SignalFigure,
    SignalOptions,
    SourceDocument,
    SplitMethod,
)
from store.core.schemas import ConfigDocument, JsonObject
from store.jobs.schemas import RecipeDocument


@dataclass(kw_only=True)
class NewDataset:
    """A data set to record: a row of table `dataset`."""

    dataset_id: str
    name: str
    kind: Kind
    format: str  # a format of store.data.formats
    columns: dict[str, str]  # role -> column of the file
    source: SourceDocument
    fingerprint: str  # hash of the rows; name of their folder
    row_count: int
    skipped_count: int
    duplicate_count: int  # rows with the same text as an earlier row
    source_bytes: int
    stats: ImportStats
    split_seed: int  # this and the next four fields: see SplitFields
    validation_size: float
    test_size: float
    split_by: SplitMethod
    split_column: str | None
    created_at: datetime  # naive UTC
    created_by: str | None  # who imported it or created the version; null if unknown
    parent_id: str | None  # the version that the recipe was applied to
    recipe: RecipeDocument | None  # null for an import
    fates: Fates | None  # null for an import


@dataclass(kw_only=True)
class Dataset(NewDataset):
    """A data set with the absolute paths of its files."""

    rows_path: str  # rows.parquet
    skipped_path: str  # skipped.parquet


@dataclass(kw_only=True)
class ConvertResult:
    """Result of converting a bundled model."""

    model: str
    path: str
    parameters: int


@dataclass(kw_only=True)
class DatasetRun:
    """A run that uses a data set."""

    run_id: str
    name: str
    status: str


@dataclass(kw_only=True)
class Version(Dataset):
    """A data set in the version tree of its family."""

    depth: int  # 0 for the root
    titles: list[str]  # titles of the recipe's steps
    runs: list[DatasetRun]


class CanonicalRow(TypedDict):
    """A row of rows.parquet; columns that an older data set lacks are missing."""

    row_id: int
    line: int  # line where the row begins in the source file
    messages: list[Message] | None  # null for plain text
    text: str  # for conversations, prompt and answer joined
    label: str | None
    rejected: str | None  # for preference pairs, the rejected answer
    digest: int
    source: JsonObject  # the row as it was in the file
    choices: NotRequired[list[str] | None]
    answer_index: NotRequired[int | None]  # counted from 0
    part: NotRequired[str | None]  # as given in the file


@dataclass(kw_only=True)
class SkippedRow:
    """A skipped row of the source file."""

    line: int
    reason: str
    excerpt: str


@dataclass(kw_only=True)
class RowFate:
    """Outcome of one row."""

    parent_row_id: int | None  # null for an added row
    row_id: int | None  # null if dropped
    fate: Fate
    step: int | None  # step that dropped, added or last changed the row; null if kept
    steps: list[int]  # all steps that changed the row
    reason: str | None
    before: str | None  # text in the parent version
    after: str | None


@dataclass(kw_only=True)
class RowFates:
    """A page of row outcomes and their total number."""

    total: int
    rows: list[RowFate]


@dataclass(kw_only=True)
class RowComparison:
    """A row in two versions."""

    fate: Fate
    row_id: int | None
    other_row_id: int | None
    before: RowContents | None
    after: RowContents | None


@dataclass(kw_only=True)
class VersionComparison:
    """Row-by-row comparison of two versions of a family."""

    counts: FateCounts
    total: int  # rows with the requested fate
    rows: list[RowComparison]


@dataclass(kw_only=True)
class SignalRow:
    """A row of table `signal`: a group of signals measured on the rows of a data set."""

    fingerprint: str  # fingerprint of the rows
    name: str  # a group of store.data.signals.GROUPS
    version: int
    options: SignalOptions
    row_count: int  # rows measured; fewer than the data set has if it is a sample
    reused_count: int  # rows reused from the parent version
    figures: dict[str, SignalFigure]  # column -> figures; "set.NAME" for the data set as a whole
    seconds: float
    computed_at: datetime
    path: str  # path of the sidecar
    outdated: bool = False  # measured by an older version of the group


@dataclass(kw_only=True)
class SavedItem:
    """A named, saved item, private to its owner or shared."""

    name: str
    created_at: datetime  # time of this revision
    created_by: str | None  # the owner; null if unknown
    saved_by: str  # name of the person who saved this revision; empty if unknown
    shared: bool
    revision: int  # starts at 1 and increases with every save


@dataclass(kw_only=True)
class RecipeRow(SavedItem):
    """A saved recipe."""

    recipe_id: str
    steps: list[ConfigDocument]


@dataclass(kw_only=True)
class SliceRow(SavedItem):
    """A saved slice: a named filter for rows of a data set."""

    slice_id: str
    filter: ConfigDocument  # store.data.filters.Filter


@dataclass(kw_only=True)
class FileColumn:
    """A column of a file, or a path into its objects such as answers.text.0."""

    name: str
    type: str  # text, number, boolean, object, list, mixed or empty
    example: str  # the first value as text, at most 200 characters


@dataclass(kw_only=True)
class FileProblem:
    """A problem or notice about a file."""

    line: int | None  # null if it concerns the whole file
    reason: str
    notice: bool | None = None  # true for a notice about how the file is read, not an error


class FileFacts(TypedDict):
    """Properties of a file, and its first rows."""

    reader: str  # csv, tsv, json, jsonl, parquet, text, hub or builtin
    compressed: bool
    encoding: str
    has_header: bool | None  # null if the file type has none
    delimiter: str | None
    bytes: int
    columns: list[FileColumn]  # columns of the file, then paths into objects
    rows: list[dict[str, object]]  # the first 20 rows of the user's data; long texts are truncated


UnusedColumnRole = Literal["mark", "answer", "label", "text"]  # what an unused column may contain


@dataclass(kw_only=True)
class ColumnUse:
    """A way of reading rows that uses a column."""

    format: str  # a format of store.data.formats
    columns: dict[str, str]  # role -> column
    instead_of: str | None = None  # the column that otherwise plays its role and would then be ignored


@dataclass(kw_only=True)
class UndecidedColumn:
    """An unused column that may affect what is taught: an import stops until it is mapped or ignored."""

    name: str  # name or a path into objects; messages.weight is a field of turns
    may_be: UnusedColumnRole
    values: list[str]  # the most frequent values of the first rows, at most 4, truncated
    distinct: int  # distinct values in the first rows
    uses: list[ColumnUse]


class ReadingSummary(TypedDict):
    """How the rows of a file would be read."""

    format: str | None  # a format of store.data.formats; null if no column contains text
    mapping: dict[str, str]  # role -> column; choices_2 is a second column of choices
    guessed: bool  # the format was inferred from values alone
    answers: str | None  # how answers identify their choices: text, letter, number from 0, number from 1
    values: dict[str, str]  # value of the deciding column -> its meaning
    ignored: list[str]  # unused columns
    undecided: list[UndecidedColumn]  # unused columns that stop an import
    part_column: str | None  # the column with a row's split
    part_values: dict[str, int]  # value of that column -> rows seen
    parts: dict[str, str]  # value of that column -> split
    alternatives: list[str]  # other matching formats
    mappings: dict[str, dict[str, str]]  # for every matching format, the best first: role -> column
    canonical: list[ConvertedRow]  # the first 5 rows as they would be stored
    problems: list[FileProblem]


class Inspection(FileFacts, ReadingSummary):
    """Properties of a file and how its rows would be read."""


@dataclass(kw_only=True)
class FateExample:
    """A row before and after cleaning."""

    row_id: int | None  # row id in the old version; null for an added row
    fate: Fate
    step: int | None  # index of the step that dropped, added or last changed the row; null if kept
    steps: list[int]  # all steps that changed the row
    reason: str | None  # why it was dropped
    before: RowContents | None  # null for an added row
    after: RowContents | None  # null for a dropped row


@dataclass(kw_only=True)
class SampledRows:
    """Number of rows tried, and their total."""

    rows: int
    total: int


class UnpredictableStep(TypedDict):
    """A step that depends on several rows, so that a sample can't predict its effect on all of them."""

    step: int  # index in the recipe
    title: str


@dataclass(kw_only=True)
class CleanPreview:
    """Preview of a recipe's effect. `of` and `unknown` are set if only the first rows were tried."""

    fates: Fates
    examples: list[FateExample]
    problems: list[FieldIssue]
    of: SampledRows | None = None
    unknown: list[UnpredictableStep] | None = None


class ExportResult(TypedDict):
    """A file written to the home folder's exports, with its data card beside it."""

    path: str
    card_path: str
    name: str  # file name
    rows: int
    format: str  # messages, prompt_completion, alpaca, sharegpt, csv or parquet
    notices: list[str]  # what would be lost when importing the file again


@dataclass(kw_only=True)
class SimilarRows:
    """Other rows of the data set, the most similar first."""

    neighbours: list[tuple[int, float]]  # (row, cosine from -1 to 1)
