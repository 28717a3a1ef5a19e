"""The ask `inspect`: what a file is, from its beginning alone."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from store.documents.data.row import ConvertedRow


class FileColumn(TypedDict):
    """A column of a file, or what lies inside its objects by a path such as answers.text.0."""

    name: str
    type: str  # text, number, boolean, object, list, mixed or empty
    example: str  # the first value as text, 200 characters at most


class FileProblem(TypedDict):
    """Something to know about a file."""

    line: int | None  # null where it concerns the whole file
    reason: str
    notice: NotRequired[bool]  # true where it only says how the file is read: nothing is wrong


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


MayBe = Literal["mark", "answer", "label", "text"]  # what an unused column may be


class ColumnUse(TypedDict):
    """A way to read rows that uses a column."""

    format: str  # of store.catalog.formats
    columns: dict[str, str]  # role -> column
    instead_of: NotRequired[str]  # the column that plays its role otherwise, and is then to be left out


class UndecidedColumn(TypedDict):
    """A column of which nothing would be used though it may change what is taught: an import stops at it
    until somebody maps it or leaves it out."""

    name: str  # or a path into objects; messages.weight is a field of turns
    may_be: MayBe
    values: list[str]  # the most frequent of the first rows, at most 4, cut
    distinct: int  # values in the first rows
    uses: list[ColumnUse]


class HowRead(TypedDict):
    """How the rows of a file would be read."""

    format: str | None  # of store.catalog.formats; null where no column holds text
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


class Inspection(FileFacts, HowRead):
    """What a file is and how its rows would be read."""
