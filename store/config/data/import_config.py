"""What an import may say: where the rows come from, how they are read, and how they are split by default.

What is left out is recognised from the file itself (`engine.data.readers.readers`); a name is made from the
file's.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Any, Literal, Self, cast

from pydantic import Field, model_validator

from store.catalog.formats import FORMATS, AnswerBy, FormatName, GivenPart
from store.config.training.train_config import Split
from store.contract.document import Config, Line
from store.contract.named_sources import FileSource
from store.documents.data.source import SourceDocument

NAME_LENGTH = 80  # characters of a data set's name
MEANINGS = tuple(dict.fromkeys(meaning for form in FORMATS.values() for meaning in form.meanings))
FILE_ENDINGS = frozenset({".gz", ".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt"})


class Source(Config):
    """Where rows come from: exactly one of a path on this machine, an upload, several of either, a hub id, or
    a built-in set. The rows of several files are one data set."""

    path: FileSource | None = Field(None, description="A file or a folder on the machine of the engine")
    paths: list[FileSource] = Field(default_factory=list, max_length=200, description="Several files on it")
    upload: str | None = Field(None, description="The name of a file that was uploaded")
    uploads: list[str] = Field(default_factory=list, max_length=200, description="Several of them")
    hub_id: str | None = Field(None, description="owner/name of a data set on the Hugging Face hub")
    hub_config: str | None = None
    hub_split: str = Field("train", description="A split of it, or all")
    builtin: Literal["python"] | None = Field(None, description="Rows made from this machine's own Python")
    round: str | None = Field(None, description="The rating round that the file was made of")
    round_ratings: str | None = Field(
        None, max_length=2_000, description="Of the round: how many ratings count, and which were left out"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = (self.path, self.paths, self.upload, self.uploads, self.hub_id, self.builtin)
        if sum(map(bool, given)) != 1:
            raise ValueError("give exactly one of path, paths, upload, uploads, hub_id and builtin")
        return self

    def document(self) -> SourceDocument:
        """As it is stored."""
        return cast(SourceDocument, self.model_dump(exclude_none=True))  # its fields, by their names


def source_words(source: Source) -> str:
    """What a source is called in a sentence: the file's own name, "a.csv and 2 more", the id on the hub."""
    named = [PurePath(path).name for path in (*source.paths, *source.uploads)]
    if named:
        return named[0] + (f" and {len(named) - 1} more" if len(named) > 1 else "")
    path = source.path or source.upload
    return PurePath(path).name if path else source.hub_id or "The source"


def suggested_name(source: Mapping[str, object]) -> str:
    """A name for a data set, from its file's: "banking77_train.csv.gz" gives "banking77 train"."""
    several = source.get("paths") or source.get("uploads")
    if isinstance(several, list):
        return _common_name([str(name) for name in several])
    where = source.get("path") or source.get("upload") or source.get("hub_id") or source.get("builtin") or ""
    return _spaced(_stem(str(where)))


def free_name(name: str, taken: Collection[str]) -> str:
    """The name, or the first of "NAME 2", "NAME 3" … that no data set bears."""
    numbered = (f"{name[: NAME_LENGTH - 5]} {number}" for number in itertools.count(2))
    return next(free for free in itertools.chain([name], numbered) if free not in taken)


def _common_name(paths: list[str]) -> str:
    """What the names of several files begin with, else the folder that they lie in, else all of them."""
    words = [_spaced(_stem(path)).split() for path in paths]
    shared = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False))
    common = " ".join(column[0] for column in shared)
    if len(common) < 3:
        common = _spaced(PurePath(paths[0]).parent.name) or ", ".join(map(" ".join, words))[:80]
    return common


def _stem(path: str) -> str:
    stem = PurePath(path).name
    for _ in range(2):
        if PurePath(stem).suffix.lower() in FILE_ENDINGS:
            stem = PurePath(stem).stem
    return stem


def _spaced(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").split())[:80]


class Wishes(Config):
    """What may be said of how rows are read. What is left out is recognised from the first rows."""

    source: Source = Field(description="Where rows come from")
    has_header: bool | None = Field(None, description="CSV and TSV: the first line names the columns")
    encoding: str | None = Field(None, description="Recognised where left out: utf-8, utf-16, latin-1")
    format: FormatName | None = Field(None, description="Recognised where left out")
    columns: dict[str, str] = Field(default_factory=dict, description="role -> column of the file")
    answers: AnswerBy | None = Field(
        None, description="Multiple choice: text, letter, number from 0 or from 1; recognised where left out"
    )
    values: dict[str, str] = Field(
        default_factory=dict, description="What deciding values mean: value -> first, second, tie, good, bad"
    )
    instruction: str = Field("", description="Text and label: put before each text, to say what is asked")
    ignore: list[str] = Field(
        default_factory=list,
        max_length=200,
        description="Columns left out on purpose, though they may be marks, answers or labels",
    )
    ignore_files: list[str] = Field(
        default_factory=list,
        max_length=200,
        description="Files of a folder, or of several, that hold no rows",
    )
    part_column: str | None = Field(
        None,
        description="Column that says a row's part; recognised where left out, none where empty",
    )
    parts: dict[str, GivenPart] = Field(
        default_factory=dict,
        description="value of it -> train, validation, test or leave out; by its words if not",
    )

    @model_validator(mode="after")
    def _roles_exist(self) -> Self:
        if self.format:
            form = FORMATS[self.format]
            for role in self.columns:
                if not form.has_role(role):
                    roles = ", ".join(form.roles)
                    raise ValueError(f"columns has the role {role!r}; {self.format} has {roles}")
        meanings = FORMATS[self.format].meanings if self.format else MEANINGS
        for value, meaning in self.values.items():
            if meaning not in meanings:
                able = ", ".join(meanings) or "left out"
                raise ValueError(f"values has {value}: {meaning!r}; it may be {able}")
        return self


class ImportConfig(Split, Wishes):
    """One import: how its rows are read, and how they are dealt to train, validation and test."""

    name: Line = Field("", max_length=NAME_LENGTH, description="From the name of the file where left out")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, document: Any) -> Any:
        unnamed = isinstance(document, dict) and not document.get("name")
        if unnamed and isinstance(source := document.get("source"), dict):
            return document | {"name": suggested_name(source)}
        return document
