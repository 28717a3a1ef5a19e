"""Data sets and their versions as the store has them; what a file is from its beginning, what a recipe
would do, and what an export left.
"""

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
    """A data set as it is recorded: a row of table `dataset`."""

    dataset_id: str
    name: str
    kind: Kind
    format: str  # of store.data.formats
    columns: dict[str, str]  # role -> column of the file
    source: SourceDocument
    fingerprint: str  # of the rows; names their folder
    row_count: int
    skipped_count: int
    duplicate_count: int  # rows whose text an earlier row already has
    source_bytes: int
    stats: ImportStats
    split_seed: int  # these five as in SplitFields
    validation_size: float
    test_size: float
    split_by: SplitMethod
    split_column: str | None
    created_at: datetime  # naive UTC
    created_by: str | None  # who imported it or made the version; null where nobody knows
    parent_id: str | None  # the version that the recipe was run on
    recipe: RecipeDocument | None  # null for an import
    fates: Fates | None  # null for an import


@dataclass(kw_only=True)
class Dataset(NewDataset):
    """A data set with the absolute paths of its files."""

    rows_path: str  # rows.parquet
    skipped_path: str  # skipped.parquet


@dataclass(kw_only=True)
class ConvertResult:
    """The result of making a bundled model ready."""

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
    """A data set in the tree of its family."""

    depth: int  # 0 for the first
    titles: list[str]  # of the recipe's steps
    runs: list[DatasetRun]


class CanonicalRow(TypedDict):
    """A row of rows.parquet; columns that a data set of before lacks are missing."""

    row_id: int
    line: int  # where it begins in the source file
    messages: list[Message] | None  # null for plain text
    text: str  # of conversations prompt and answer joined
    label: str | None
    rejected: str | None  # of a preference pair the rejected answer
    digest: int
    source: JsonObject  # the row as it stood in the file
    choices: NotRequired[list[str] | None]
    answer_index: NotRequired[int | None]  # from 0
    part: NotRequired[str | None]  # as the file said


@dataclass(kw_only=True)
class SkippedRow:
    """A row of the source file that was not taken."""

    line: int
    reason: str
    excerpt: str


@dataclass(kw_only=True)
class RowFate:
    """What became of one row."""

    parent_row_id: int | None  # null for a row that was mixed in
    row_id: int | None  # null where it was dropped
    fate: Fate
    step: int | None  # that dropped or added it, or last changed it; null for kept
    steps: list[int]  # all that changed it
    reason: str | None
    before: str | None  # text in the version before
    after: str | None


@dataclass(kw_only=True)
class RowFates:
    """A page of fates, with how many there are in all."""

    total: int
    rows: list[RowFate]


@dataclass(kw_only=True)
class RowComparison:
    """A row of two versions side by side."""

    fate: Fate
    row_id: int | None
    other_row_id: int | None
    before: RowContents | None
    after: RowContents | None


@dataclass(kw_only=True)
class VersionComparison:
    """Two versions of a family row by row."""

    counts: FateCounts
    total: int  # rows of the fate that was asked for
    rows: list[RowComparison]


@dataclass(kw_only=True)
class SignalRow:
    """A row of table `signal`: a group of signals that was measured for the rows of a data set."""

    fingerprint: str  # of the rows
    name: str  # of store.data.signals.GROUPS
    version: int
    options: SignalOptions
    row_count: int  # measured; fewer than the data set's where it is a sample
    reused_count: int  # taken over from the version before
    figures: dict[str, SignalFigure]  # column -> figures; "set.NAME" of the set as a whole
    seconds: float
    computed_at: datetime
    path: str  # of the sidecar
    outdated: bool = False  # measured by an older version of the group


@dataclass(kw_only=True)
class SavedItem:
    """What somebody saved under a name, which is the owner's alone or shared."""

    name: str
    created_at: datetime  # of this revision
    created_by: str | None  # the owner; null where nobody knows
    saved_by: str  # the name of who saved this revision; empty where nobody knows
    shared: bool
    revision: int  # 1, and more each time it is saved anew


@dataclass(kw_only=True)
class RecipeRow(SavedItem):
    """A recipe that somebody saved."""

    recipe_id: str
    steps: list[ConfigDocument]


@dataclass(kw_only=True)
class SliceRow(SavedItem):
    """Rows of a data set that somebody named."""

    slice_id: str
    filter: ConfigDocument  # store.data.filters.Filter


@dataclass(kw_only=True)
class FileColumn:
    """A column of a file, or what lies inside its objects by a path such as answers.text.0."""

    name: str
    type: str  # text, number, boolean, object, list, mixed or empty
    example: str  # the first value as text, 200 characters at most


@dataclass(kw_only=True)
class FileProblem:
    """Something to know about a file."""

    line: int | None  # null where it concerns the whole file
    reason: str
    notice: bool | None = None  # true where it only says how the file is read: nothing is wrong


class FileFacts(TypedDict):
    """What a file is, and its first rows."""

    reader: str  # csv, tsv, json, jsonl, parquet, text, hub or builtin
    compressed: bool
    encoding: str
    has_header: bool | None  # null where the kind of file has none
    delimiter: str | None
    bytes: int
    columns: list[FileColumn]  # those of the file, then paths into objects
    rows: list[dict[str, object]]  # the first 20, a user's own; long texts are cut


UnusedColumnRole = Literal["mark", "answer", "label", "text"]  # what an unused column may be


@dataclass(kw_only=True)
class ColumnUse:
    """A way to read rows that uses a column."""

    format: str  # of store.data.formats
    columns: dict[str, str]  # role -> column
    instead_of: str | None = None  # the column that plays its role otherwise, and is then to be left out


@dataclass(kw_only=True)
class UndecidedColumn:
    """A column of which nothing would be used though it may change what is taught: an import stops at it
    until somebody maps it or leaves it out."""

    name: str  # or a path into objects; messages.weight is a field of turns
    may_be: UnusedColumnRole
    values: list[str]  # the most frequent of the first rows, at most 4, cut
    distinct: int  # values in the first rows
    uses: list[ColumnUse]


class ReadingSummary(TypedDict):
    """How the rows of a file would be read."""

    format: str | None  # of store.data.formats; null where no column holds text
    mapping: dict[str, str]  # role -> column; choices_2 is one more column of choices
    guessed: bool  # the values alone led to the format
    answers: str | None  # how answers name their choices: text, letter, number from 0, number from 1
    values: dict[str, str]  # value of the deciding column -> what it means
    ignored: list[str]  # columns of which nothing is used
    undecided: list[UndecidedColumn]  # those of them that an import stops at
    part_column: str | None  # the column that says a row's part
    part_values: dict[str, int]  # its values -> rows seen
    parts: dict[str, str]  # its values -> part
    alternatives: list[str]  # further formats that fit
    mappings: dict[str, dict[str, str]]  # of every format that fits, the best first: role -> column
    canonical: list[ConvertedRow]  # the first 5 rows as they would be stored
    problems: list[FileProblem]


class Inspection(FileFacts, ReadingSummary):
    """What a file is and how its rows would be read."""


@dataclass(kw_only=True)
class FateExample:
    """A row before and after."""

    row_id: int | None  # of the old version; null for a row that is mixed in
    fate: Fate
    step: int | None  # index of the step that dropped or added it, or last changed it; null for kept
    steps: list[int]  # all that changed it
    reason: str | None  # why it was dropped
    before: RowContents | None  # null for a row that is mixed in
    after: RowContents | None  # null for a row that is dropped


@dataclass(kw_only=True)
class SampledRows:
    """How many of the rows were tried."""

    rows: int
    total: int


class UnpredictableStep(TypedDict):
    """A step that looks across rows: nothing is promised of what it does to all of them."""

    step: int  # index in the recipe
    title: str


@dataclass(kw_only=True)
class CleanPreview:
    """What a recipe would do. `of` and `unknown` are there where the first rows alone were tried."""

    fates: Fates
    examples: list[FateExample]
    problems: list[FieldIssue]
    of: SampledRows | None = None
    unknown: list[UnpredictableStep] | None = None


class ExportResult(TypedDict):
    """A file that was written to the home folder's exports, with its data card beside it."""

    path: str
    card_path: str
    name: str  # of the file
    rows: int
    format: str  # messages, prompt_completion, alpaca, sharegpt, csv or parquet
    notices: list[str]  # what an import of the file would not read back


@dataclass(kw_only=True)
class SimilarRows:
    """Other rows of the data set, nearest first."""

    neighbours: list[tuple[int, float]]  # (row, cosine from -1 to 1)
