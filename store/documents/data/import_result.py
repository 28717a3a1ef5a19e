"""Results of the jobs that make rows, import and clean. What is said of rows is kept with the data set."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from store.documents.data.fates import Fates
from store.documents.data.row import Kind
from store.documents.data.split import SplitBy


class SizeSpread(TypedDict):
    """How a number is spread over the rows."""

    min: int
    median: float
    p95: float
    max: int


class RepeatedRows(TypedDict):
    """Rows that an earlier row equals."""

    exact: int
    folded: int  # but for case, spacing and form of the characters


class RowSizes(TypedDict):
    """How large the rows are, and how many repeat another."""

    characters: SizeSpread  # of the text
    turns: SizeSpread  # of the conversation; 0 for plain text
    duplicates: RepeatedRows


class ImportStats(TypedDict):
    """What was counted while the rows were written. Data sets of older imports lack what was counted later,
    and those that a recipe made have nothing of how a file was read."""

    characters: SizeSpread  # of the text
    turns: SizeSpread  # of the conversation; 0 for plain text
    duplicates: NotRequired[RepeatedRows]
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
    format: str  # of store.catalog.formats
    columns: dict[str, str]  # role -> column of the file; part -> the column of parts
    row_count: int
    skipped_count: int  # rows read + rows skipped = rows of the file
    duplicate_count: int  # rows that an earlier row equals exactly
    source_bytes: int
    stats: ImportStats


class ImportResult(RowsResult):
    """Result of the job `import`."""

    split_by: NotRequired[SplitBy]  # given where the file says the parts


class CleanResult(RowsResult):
    """Result of the job `clean`."""

    fates: Fates
    parts: NotRequired[dict[str, int]]  # part -> rows, where the recipe says which part each row is in
