"""Rows of a data set: turns, sources, splits, what an import and a recipe did to them, and statistics of
their signals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict, final

Kind = Literal["chat", "text", "preference"]  # storage format of rows


class Message(TypedDict):
    """A turn of a conversation as stored in a row."""

    role: str  # system, user, assistant; also tools and tool in conversations with function calls
    content: str


class RowContents(TypedDict):
    """Content of a row of a data set, as in its columns."""

    messages: list[Message] | None  # null for plain text
    text: str  # for a conversation prompt and response joined
    label: str | None
    rejected: str | None  # the rejected response of a pair


class ConvertedRow(TypedDict):
    """A row of a file as an import would store it; either messages or text is present."""

    messages: NotRequired[list[Message]]
    text: NotRequired[str]  # plain text only
    label: str | None
    choices: NotRequired[list[str]]  # for multiple choice, in prompt order
    answer_index: NotRequired[int | None]  # index of the right choice, from 0
    part: NotRequired[str]  # train, validation, test, or how the row is excluded; missing if there is none
    rejected: NotRequired[str]  # the rejected response of a pair


class SourceDocument(TypedDict, total=False):
    """The stored source, without unset fields (`store.data.config.Source`)."""

    path: str  # a file or folder on the engine's machine
    paths: list[str]  # several files on that machine
    upload: str  # name of an uploaded file
    uploads: list[str]
    hub_id: str  # on the Hugging Face Hub
    hub_config: str
    hub_split: str
    builtin: Literal["python"]  # rows generated from this machine's Python installation
    round: str  # the rating round that the file was created from
    round_ratings: str  # of that round: how many ratings count, and which were excluded
    improvement: str  # improvement that collected the rows


class FieldIssue(TypedDict):
    """An issue with a field of a form or a config. Errors prevent the action; warnings and infos do not."""

    level: Literal["error", "warning", "info"]
    field: str  # a path such as recipe.steps.2.where; empty for the whole document
    message: str
    fix: str  # what to do; empty if nothing


SplitMethod = Literal["random", "group", "time", "stratified", "given"]  # how rows are assigned to splits
SplitGrouping = Literal["text", "near", "prompt", "group"]  # what rows share that are kept in the same split


class PartRows(TypedDict):
    """Number of rows in each split."""

    train: int
    validation: int
    test: int


class SplitCounts(TypedDict):
    """Number of rows that each split would have."""

    rows: PartRows
    kept_together: int  # rows beyond the first in each group that stays in one split
    kept: list[SplitGrouping]
    leaking: list[int]  # training rows that duplicate a held-out row, at most 10,000
    leaking_rows: int  # total number of these
    problems: list[FieldIssue]  # an error means that a launch with this split would be rejected


Fate = Literal["kept", "changed", "dropped", "added"]  # fate of a row


@dataclass(kw_only=True)
class FateCounts:
    """Number of rows by fate: rows of the old version, and those that were mixed in and kept."""

    kept: int
    changed: int
    dropped: int
    added: int


@dataclass(kw_only=True)
class StepCounts:
    """What one step of a recipe did to its input rows."""

    title: str
    rows_in: int
    changed: int
    dropped: int
    added: int  # mixed in by this step
    rows_out: int


@dataclass(kw_only=True)
class Fates(FateCounts):
    """Fates of the rows, and what each step did. A row that one step mixed in and a later one dropped is in
    the counts of both steps and has no fate.
    """

    steps: list[StepCounts]


class SizeDistribution(TypedDict):
    """Distribution of a number over the rows."""

    min: int
    median: float
    p95: float
    max: int


class DuplicateRows(TypedDict):
    """Number of rows that equal an earlier row."""

    exact: int
    folded: int  # except for case, spacing and Unicode form


class RowSizes(TypedDict):
    """Sizes of the rows, and number of duplicates."""

    characters: SizeDistribution  # of the text
    turns: SizeDistribution  # of the conversation; 0 for plain text
    duplicates: DuplicateRows


class ImportStats(TypedDict):
    """Statistics collected while writing the rows. Data sets of older imports lack newer fields, and those
    created by a recipe have nothing about reading a file.
    """

    characters: SizeDistribution  # of the text
    turns: SizeDistribution  # of the conversation; 0 for plain text
    duplicates: NotRequired[DuplicateRows]
    labels: dict[str, int]  # label -> rows, the 20 most frequent
    label_count: int
    skipped_reasons: dict[str, int]  # reason why rows were skipped -> rows, the 100 most frequent
    reader: str  # as in an inspection; recipe for a cleaned version
    encoding: str
    notices: list[str]
    answers: NotRequired[str | None]  # how responses name their choices
    values: NotRequired[dict[str, str]]  # value of the deciding column -> meaning
    ignored: NotRequired[list[str]]  # unused columns, the first 200
    ignored_count: NotRequired[int]
    left_out: NotRequired[dict[str, int]]  # intentionally excluded columns -> rows with a value in them
    parts: NotRequired[dict[str, int]]  # split -> rows, as given by the file


class RowsResult(TypedDict):
    """Common fields of import and cleaning results."""

    fingerprint: str  # identifies the content of the rows
    kind: Kind
    format: str  # of store.data.formats
    columns: dict[str, str]  # role -> column of the file; part -> the column with the split
    row_count: int
    skipped_count: int  # rows read + rows skipped = rows of the file
    duplicate_count: int  # rows that exactly equal an earlier row
    source_bytes: int
    stats: ImportStats


class ImportResult(RowsResult):
    """Result of the job `import`."""

    split_by: NotRequired[SplitMethod]  # given if the file specifies the splits


class CleanResult(RowsResult):
    """Result of the job `clean`."""

    fates: Fates
    parts: NotRequired[dict[str, int]]  # split -> rows, if the recipe assigns rows to splits


# The types are final, so that type checkers narrow the union by a key test ("flagged" in figure).


@final
class NumberFigure(TypedDict):
    """Statistics of a numeric column; without a measured row all but n and positive are null."""

    n: int  # measured rows
    min: float | None
    mean: float | None
    median: float | None
    p95: float | None
    max: float | None
    positive: int  # rows above 0


@final
class FlagFigure(TypedDict):
    """Statistics of a boolean column."""

    n: int  # measured rows
    flagged: int


@final
class CategoryFigure(TypedDict):
    """Statistics of a categorical column."""

    n: int  # measured rows
    distinct: int
    values: dict[str, int]  # value -> rows, the 20 most frequent


@final
class GroupFigure(TypedDict):
    """Statistics of a column with the group of each row."""

    n: int  # all rows
    groups: int
    rows: int  # that share their group with another row
    extra: int  # rows beyond the first of their group


@final
class SetFigure(TypedDict):
    """Statistic of the data set as a whole, computed on a sample of `n`."""

    value: float | None  # null if the set is too small
    n: int
    unit: NotRequired[str]  # of n; default: rows
    low: NotRequired[float | None]  # 95% interval; for half_loss* the range over the halves
    high: NotRequired[float | None]
    sd: NotRequired[float | None]  # half_loss*: over the halves
    repeats: NotRequired[int]  # half_loss*: number of halves
    bytes: NotRequired[int]  # compression: size of the text before compression
    topics: NotRequired[int]  # cluster_entropy
    template: NotRequired[str]  # top_template: the most frequent one
    templates: NotRequired[int]  # top_template: number of templates
    pairs: NotRequired[
        list[tuple[str, str, int]]
    ]  # confused: (given label, suggested label, suspect rows), most frequent first
    without_label: NotRequired[int]  # unjudged: rows
    rare_labels: NotRequired[int]  # unjudged: number of labels with too few rows
    examples: NotRequired[list[str]]  # unjudged: such labels, at most 20
    trained_rows: NotRequired[int]  # accuracy: rows that the judge was trained on


ColumnFigure = NumberFigure | FlagFigure | CategoryFigure | GroupFigure
SignalFigure = NumberFigure | FlagFigure | CategoryFigure | GroupFigure | SetFigure


class SignalOptions(TypedDict, total=False):
    """Options that the values of a group depend on: a new version reuses values of rows if they are equal."""

    endings: str  # text: how the responses of the set end, in words
    model: str  # tokens, difficulty
    max_length: int  # tokens: truncation length
    chosen: bool  # tokens: the length was given, not derived from the rows
    threshold: float  # duplicates: Jaccard similarity of near duplicates
    sample: int | None  # difficulty: sampled rows; null for as many as the device allows


class ProfileResult(TypedDict):
    """Result of the job `profile`: one group of signals, measured for all rows of a data set."""

    options: SignalOptions
    row_count: int
    reused_count: int  # rows whose values were taken from the previous version
    seconds: float
    figures: dict[str, SignalFigure]  # column, or set.NAME for the set as a whole


class Overlap(TypedDict):
    """Result of the ask `overlap`: rows of a data set that occur in another one. Each row is counted once."""

    exact: int  # rows with the same normalized text
    near: int  # not exact, but with a Jaccard similarity of at least the threshold
    same_prompt: int  # neither, but with a prompt that occurs in the other data set
    rows: int  # of the first data set
    other_rows: int
    row_ids: list[int]  # shared rows of the first data set, at most 10,000
    examples: list[tuple[int, int, float]]  # (row, row of the other, similarity from 0 to 1), at most 50


class LeakedRows(TypedDict):
    """Held-out rows that occur in training. Each row is counted once."""

    exact: int  # rows with the same normalized text
    near: int  # not exact, but near duplicates; 0 if these are unknown
    same_prompt: int | None  # another response to a training prompt; null if not checked
    checked_near: bool  # whether near duplicates are known
