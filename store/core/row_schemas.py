"""Rows of a data set: their turns, where they come from, how they are split, what an import and a recipe
did to them, and figures of their signals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict, final

Kind = Literal["chat", "text", "preference"]  # the form in which the rows of a data set are stored


class Message(TypedDict):
    """One turn of a conversation as a row stores it."""

    role: str  # system, user, assistant; of conversations that call functions tools and tool too
    content: str


class RowContents(TypedDict):
    """What a row of a data set holds, as its columns do."""

    messages: list[Message] | None  # null for plain text
    text: str  # of a conversation prompt and answer joined
    label: str | None
    rejected: str | None  # the rejected answer of a pair


class ConvertedRow(TypedDict):
    """A row of a file as an import would store it; of messages and text one is there."""

    messages: NotRequired[list[Message]]
    text: NotRequired[str]  # of plain text alone
    label: str | None
    choices: NotRequired[list[str]]  # of multiple choice, in the order of the prompt
    answer_index: NotRequired[int | None]  # the place of the right choice, from 0
    part: NotRequired[str]  # train, validation, test, or how the row is left out; missing without one
    rejected: NotRequired[str]  # the rejected answer of a pair


class SourceDocument(TypedDict, total=False):
    """As it is stored, without what was left out (`store.data.config.Source`)."""

    path: str  # a file or a folder on the machine of the engine
    paths: list[str]  # several files on it
    upload: str  # the name of a file that was uploaded
    uploads: list[str]
    hub_id: str  # of the Hugging Face hub
    hub_config: str
    hub_split: str
    builtin: Literal["python"]  # rows made from this machine's own Python
    round: str  # the rating round that the file was made of
    round_ratings: str  # of that round: how many ratings count, and which were left out
    improvement: str  # that gathered the rows


class FieldIssue(TypedDict):
    """A sentence about one field of a form or a config. An error refuses what is asked for; a warning and an
    info do not."""

    level: Literal["error", "warning", "info"]
    field: str  # a path such as recipe.steps.2.where; empty for the whole
    message: str
    fix: str  # what to do; empty where there is nothing


SplitMethod = Literal["random", "group", "time", "stratified", "given"]  # how rows are dealt
SplitGrouping = Literal["text", "near", "prompt", "group"]  # what rows have in common that are not parted


class PartRows(TypedDict):
    """Rows of each part."""

    train: int
    validation: int
    test: int


class SplitCounts(TypedDict):
    """How many rows each part would have."""

    rows: PartRows
    kept_together: int  # rows beyond the first of those that must not be parted
    kept: list[SplitGrouping]
    leaking: list[int]  # training rows that repeat a held-out one, 10,000 at most
    leaking_rows: int  # of them in all
    problems: list[FieldIssue]  # an error is why a launch with this split would be refused


Fate = Literal["kept", "changed", "dropped", "added"]  # what became of a row


@dataclass(kw_only=True)
class FateCounts:
    """Rows of each fate: what became of the old version's, and those that were mixed in and stayed."""

    kept: int
    changed: int
    dropped: int
    added: int


@dataclass(kw_only=True)
class StepCounts:
    """What one step of a recipe did to the rows that it met."""

    title: str
    rows_in: int
    changed: int
    dropped: int
    added: int  # mixed in by this step
    rows_out: int


@dataclass(kw_only=True)
class Fates(FateCounts):
    """What became of the rows, and what each step did. A row that one step mixed in and a later one dropped
    is in the counts of both and in no fate."""

    steps: list[StepCounts]


class SizeDistribution(TypedDict):
    """How a number is spread over the rows."""

    min: int
    median: float
    p95: float
    max: int


class DuplicateRows(TypedDict):
    """Rows that an earlier row equals."""

    exact: int
    folded: int  # but for case, spacing and form of the characters


class RowSizes(TypedDict):
    """How large the rows are, and how many repeat another."""

    characters: SizeDistribution  # of the text
    turns: SizeDistribution  # of the conversation; 0 for plain text
    duplicates: DuplicateRows


class ImportStats(TypedDict):
    """What was counted while the rows were written. Data sets of older imports lack what was counted later,
    and those that a recipe made have nothing of how a file was read."""

    characters: SizeDistribution  # of the text
    turns: SizeDistribution  # of the conversation; 0 for plain text
    duplicates: NotRequired[DuplicateRows]
    labels: dict[str, int]  # label -> rows, the 20 most frequent
    label_count: int
    skipped_reasons: dict[str, int]  # why rows were not taken -> rows, the 100 most frequent
    reader: str  # as of an inspection; recipe for a cleaned version
    encoding: str
    notices: list[str]
    answers: NotRequired[str | None]  # how answers name their choices
    values: NotRequired[dict[str, str]]  # value of the deciding column -> what it means
    ignored: NotRequired[list[str]]  # columns of which nothing is used, the first 200
    ignored_count: NotRequired[int]
    left_out: NotRequired[dict[str, int]]  # columns left out on purpose -> rows that have something in them
    parts: NotRequired[dict[str, int]]  # part -> rows, as the file gives them


class RowsResult(TypedDict):
    """What an import and a cleaning have in common."""

    fingerprint: str  # names the content of the rows
    kind: Kind
    format: str  # of store.data.formats
    columns: dict[str, str]  # role -> column of the file; part -> the column of parts
    row_count: int
    skipped_count: int  # rows read + rows skipped = rows of the file
    duplicate_count: int  # rows that an earlier row equals exactly
    source_bytes: int
    stats: ImportStats


class ImportResult(RowsResult):
    """Result of the job `import`."""

    split_by: NotRequired[SplitMethod]  # given where the file says the parts


class CleanResult(RowsResult):
    """Result of the job `clean`."""

    fates: Fates
    parts: NotRequired[dict[str, int]]  # part -> rows, where the recipe says which part each row is in


# The types are final, so that asking for a key of one of them ("flagged" in figure) says which one it is.


@final
class NumberFigure(TypedDict):
    """A column of numbers; without a measured row all but n and positive are null."""

    n: int  # rows that were measured
    min: float | None
    mean: float | None
    median: float | None
    p95: float | None
    max: float | None
    positive: int  # rows above 0


@final
class FlagFigure(TypedDict):
    """A column of flags."""

    n: int  # rows that were measured
    flagged: int


@final
class CategoryFigure(TypedDict):
    """A column of names."""

    n: int  # rows that were measured
    distinct: int
    values: dict[str, int]  # value -> rows, the 20 most frequent


@final
class GroupFigure(TypedDict):
    """A column that names the group a row belongs to."""

    n: int  # all rows
    groups: int
    rows: int  # that share their group with another
    extra: int  # rows beyond the first of their group


@final
class SetFigure(TypedDict):
    """A figure of the set as a whole, taken on a sample of `n`."""

    value: float | None  # null where the set is too small to say
    n: int
    unit: NotRequired[str]  # of n: rows where left out
    low: NotRequired[float | None]  # a 95% interval; of half_loss* the range over the halves
    high: NotRequired[float | None]
    sd: NotRequired[float | None]  # half_loss*: over the halves
    repeats: NotRequired[int]  # half_loss*: halves
    bytes: NotRequired[int]  # compression: of text that was compressed
    topics: NotRequired[int]  # cluster_entropy
    template: NotRequired[str]  # top_template: the most frequent one
    templates: NotRequired[int]  # top_template: how many there are
    pairs: NotRequired[
        list[tuple[str, str, int]]
    ]  # confused: (given, suggested, suspects), most frequent first
    without_label: NotRequired[int]  # unjudged: rows
    rare_labels: NotRequired[int]  # unjudged: labels of too few rows
    examples: NotRequired[list[str]]  # unjudged: such labels, 20 at most
    trained_rows: NotRequired[int]  # accuracy: rows that the judge was trained on


ColumnFigure = NumberFigure | FlagFigure | CategoryFigure | GroupFigure
SignalFigure = NumberFigure | FlagFigure | CategoryFigure | GroupFigure | SetFigure


class SignalOptions(TypedDict, total=False):
    """What decided the values of a group: rows of a new version take values over where it is the same."""

    endings: str  # text: how the answers of the set end, in words
    model: str  # tokens, difficulty
    max_length: int  # tokens: that rows are cut to
    chosen: bool  # tokens: the length was given, not derived from the rows
    threshold: float  # duplicates: Jaccard similarity of near duplicates
    sample: int | None  # difficulty: rows that were drawn; null for as many as the device allows


class ProfileResult(TypedDict):
    """Result of the job `profile`: one group of signals, measured for every row of a data set."""

    options: SignalOptions
    row_count: int
    reused_count: int  # rows whose values the version before had
    seconds: float
    figures: dict[str, SignalFigure]  # column, or set.NAME for the set as a whole


class Overlap(TypedDict):
    """The ask `overlap`: which rows of a data set another one has too. Each row is counted once."""

    exact: int  # rows, by their folded text
    near: int  # not exactly, but with a Jaccard similarity of at least the threshold
    same_prompt: int  # neither, but with a prompt of the other
    rows: int  # of the first data set
    other_rows: int
    row_ids: list[int]  # all of the shared rows of the first, 10,000 at most
    examples: list[tuple[int, int, float]]  # (row, the other's row, similarity from 0 to 1), 50 at most


class LeakedRows(TypedDict):
    """Held-out rows that training repeats. Each row is counted once."""

    exact: int  # rows, by their folded text
    near: int  # not exactly, but near duplicates; 0 where these are not known
    same_prompt: int | None  # another answer to a prompt that is trained on; null where it was not looked at
    checked_near: bool  # near duplicates are known
