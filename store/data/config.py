"""Configs of data jobs (import, profile, clean, export) and of the queries that a worker answers
interactively.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self, cast

from pydantic import ConfigDict, Field, field_validator, model_validator

from store.core.config import Config, FileSource, Line, ModelSource, NoRemoteCodeConfig
from store.core.model_fields import FieldDisplay
from store.core.row_schemas import Kind, SourceDocument
from store.data.cleaning import Recipe
from store.data.filters import Filter
from store.data.formats import FORMATS, AnswerBy, FormatName, GivenPart
from store.data.signals import GROUPS
from store.training.split import Split
from store.training.train_config import BUNDLED_MODEL

# In queries, past runs, the data set to replay and probe runs are added by the engine
# (`engine.server.job_submission`); all other fields come from the client.

Document = dict[str, Any]
# The name of a data set's folder; the pattern rules out a path to another folder.
Fingerprint = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w-]{0,127}$")]


class CostQuery(Config):
    """Body of `preview` and `advice`: a possibly unfinished training config and the rows it refers to."""

    config: Document
    fingerprint: Fingerprint
    split: Split = Field(default_factory=lambda: Split.parse({}))
    row: int = Field(0, ge=0, description="Row that the preview shows")
    past: list[Document] = Field(default_factory=list)
    replay: Document | None = None
    probes: list[Document] = Field(default_factory=list)
    imported_as: Document | None = None
    time_steps: bool = Field(False, description="Run a few real steps if no similar ones were timed")
    running: bool = Field(False, description="Another run is training; this one starts after it")
    launch: bool = Field(
        False, description="The preview precedes a launch, so weights are inspected for longer"
    )


class RenderingQuery(NoRemoteCodeConfig):
    """Query for a row as the model reads it, and for what a maximum length means for all rows."""

    # leading and trailing white space of a template is significant
    model_config = ConfigDict(str_strip_whitespace=False)

    fingerprint: Fingerprint
    kind: Kind
    model: Annotated[ModelSource, FieldDisplay(open=True)] = Field(
        min_length=1, max_length=1_000, description="A model in the home folder, a local folder or a Hub id"
    )
    chat_template: str = ""
    completion_only_loss: bool = True
    max_length: Annotated[int | None, FieldDisplay(low=8, empty="99% fit")] = Field(None, ge=1, le=10_000_000)
    row: int = Field(0, ge=0)


class WorkDataset(Config):
    """A data set as passed to a worker by `store.data.datasets.work_order`."""

    model_config = ConfigDict(extra="allow")

    dataset_id: str
    name: str = ""
    kind: Kind
    format: str
    columns: dict[str, str]
    fingerprint: Fingerprint
    row_count: int = Field(ge=0)
    signals: Document = Field(default_factory=dict)


# Import options. Omitted options are detected from the file itself (`engine.data.readers.source_reader`); the
# default name is derived from the file name.

NAME_LENGTH = 80  # maximum characters of a data set's name
MEANINGS = tuple(dict.fromkeys(meaning for form in FORMATS.values() for meaning in form.meanings))
FILE_ENDINGS = frozenset({".gz", ".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt"})


class Source(Config):
    """Where rows come from: exactly one of a path on this machine, an upload, several of either, a hub id or
    a built-in set. The rows of several files form one data set.
    """

    path: FileSource | None = Field(
        None,
        description="File or folder on the engine's machine: CSV, TSV, JSON, JSONL, Parquet or plain text,"
        " also compressed with gzip",
    )
    paths: list[FileSource] = Field(
        default_factory=list, max_length=200, description="Several files on the engine's machine"
    )
    upload: str | None = Field(None, description="Name of an uploaded file")
    uploads: list[str] = Field(
        default_factory=list, max_length=200, description="Names of several uploaded files"
    )
    hub_id: str | None = Field(None, description="Data set on the Hugging Face Hub: owner/name")
    hub_config: str | None = None
    hub_split: str = Field("train", description="Split of the Hub data set, or all")
    builtin: Literal["python"] | None = Field(
        None, description="Rows generated from this machine's Python documentation"
    )
    round: str | None = Field(None, description="The rating round that the file was created from")
    round_ratings: str | None = Field(
        None,
        max_length=2_000,
        description="For a rating round: how many ratings count, and which were excluded",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = (self.path, self.paths, self.upload, self.uploads, self.hub_id, self.builtin)
        if sum(map(bool, given)) != 1:
            raise ValueError("give exactly one of path, paths, upload, uploads, hub_id and builtin")
        return self

    def document(self) -> SourceDocument:
        """Return the source as it is stored."""
        return cast(SourceDocument, self.model_dump(exclude_none=True))  # the same fields by name


def describe_source(source: Source) -> str:
    """Return the name of a source for use in a sentence: the file name, "a.csv and 2 more", or the hub id."""
    named = [PurePath(path).name for path in (*source.paths, *source.uploads)]
    if named:
        return named[0] + (f" and {len(named) - 1} more" if len(named) > 1 else "")
    path = source.path or source.upload
    return PurePath(path).name if path else source.hub_id or "The source"


def suggest_name(source: Mapping[str, object]) -> str:
    """Suggest a data set name from its file name: "banking77_train.csv.gz" gives "banking77 train"."""
    several = source.get("paths") or source.get("uploads")
    if isinstance(several, list):
        return _find_common_name([str(name) for name in several])
    where = source.get("path") or source.get("upload") or source.get("hub_id") or source.get("builtin") or ""
    return _replace_separators(_get_stem(str(where)))


def find_free_name(name: str, taken: Collection[str]) -> str:
    """Return the name, or the first of "NAME 2", "NAME 3" … that isn't taken."""
    numbered = (f"{name[: NAME_LENGTH - 5]} {number}" for number in itertools.count(2))
    return next(free for free in itertools.chain([name], numbered) if free not in taken)


def _find_common_name(paths: list[str]) -> str:
    """Return the common prefix of several file names, else their folder's name, else all names joined."""
    words = [_replace_separators(_get_stem(path)).split() for path in paths]
    shared = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False))
    common = " ".join(column[0] for column in shared)
    if len(common) < 3:
        common = _replace_separators(PurePath(paths[0]).parent.name) or ", ".join(map(" ".join, words))[:80]
    return common


def _get_stem(path: str) -> str:
    stem = PurePath(path).name
    for _ in range(2):
        if PurePath(stem).suffix.lower() in FILE_ENDINGS:
            stem = PurePath(stem).stem
    return stem


def _replace_separators(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").split())[:80]


class ImportOptions(Config):
    """Options for reading rows. Omitted options are detected from the first rows."""

    source: Source = Field(description="Source of the rows")
    has_header: bool | None = Field(None, description="CSV and TSV: the first line names the columns")
    encoding: str | None = Field(None, description="Detected if omitted: utf-8, utf-16, latin-1")
    format: FormatName | None = Field(None, description="Detected if omitted")
    columns: dict[str, str] = Field(default_factory=dict, description="role -> column of the file")
    answers: AnswerBy | None = Field(
        None, description="Multiple choice: text, letter, number from 0 or from 1; detected if omitted"
    )
    values: dict[str, str] = Field(
        default_factory=dict,
        description="Meaning of the rating values: value -> first, second, tie, good, bad",
    )
    instruction: str = Field("", description="Text and label: instruction put before each text")
    ignore: list[str] = Field(
        default_factory=list,
        max_length=200,
        description="Columns to ignore, although they may be ratings, answers or labels",
    )
    ignore_files: list[str] = Field(
        default_factory=list,
        max_length=200,
        description="Files to ignore",
    )
    part_column: str | None = Field(
        None,
        description="Column with the split of a row; detected if omitted, none if empty",
    )
    parts: dict[str, GivenPart] = Field(
        default_factory=dict,
        description='value -> train, validation, test or "leave out"; by name if omitted',
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


class ImportConfig(Split, ImportOptions):
    """Config of an import: how rows are read and how they are split into train, validation and test."""

    name: Line = Field("", max_length=NAME_LENGTH, description="Defaults to the name of the file")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, document: Any) -> Any:
        unnamed = isinstance(document, dict) and not document.get("name")
        if unnamed and isinstance(source := document.get("source"), dict):
            return document | {"name": suggest_name(source)}
        return document


ExportFormat = Literal["messages", "prompt_completion", "alpaca", "sharegpt", "csv", "parquet"]


class ProfileConfig(Config):
    """Config for measuring one group of signals on every row of a data set or, if expensive, on a sample."""

    dataset: str = Field(min_length=1, description="Name or id of a data set")
    group: str = Field(description="Group of signals")
    model: ModelSource = Field(
        BUNDLED_MODEL,
        min_length=1,
        max_length=500,
        description="Model whose tokenizer or loss is used; tokens and difficulty only",
    )
    max_length: int | None = Field(None, ge=8, description="Rows are truncated to this length; tokens only")
    threshold: float = Field(0.7, ge=0.5, le=1, description="Jaccard similarity of near duplicates")
    sample: int | None = Field(None, ge=1, description="Measure only this many rows, sampled with seed 0")

    @field_validator("group")
    @classmethod
    def _known_group(cls, value: str) -> str:
        if value not in GROUPS:
            raise ValueError(f"there is {', '.join(GROUPS)}")
        return value


class CleanConfig(Config):
    """Config of a cleaning job: the version to start from, the recipe, and the name of the new version."""

    dataset: str = Field(min_length=1, description="Name or id of the old version")
    name: Line = Field(
        "", max_length=80, description="Name of the new version; numbered after the old one if empty"
    )
    recipe: Recipe = Field(description="Steps, in order")


class ExportConfig(Config):
    """Config for exporting a version, or the rows that match a filter, to a file in the home folder's
    exports.
    """

    dataset: str = Field(min_length=1, description="Name or id of a data set")
    format: ExportFormat = Field("messages", description="Format of each row")
    where: Filter = Field(
        default_factory=Filter, description="Only rows that match this filter; all if empty"
    )
    parts: list[Literal["train", "validation", "test"]] | None = Field(
        None, description="Parts; all if omitted"
    )
    one_list: bool = Field(
        False, description="One JSON list instead of one line per row; not for csv and parquet"
    )


class CleanPreviewQuery(Config):
    """Query for a preview of a recipe: a work order, the recipe, and the number of examples per fate and
    step.
    """

    dataset: WorkDataset
    mixed: dict[str, WorkDataset] = Field(default_factory=dict)
    parent: dict[str, object] | None = None  # as in the work order; a preview measures nothing
    recipe: Recipe
    examples: int = Field(5, ge=0, le=100)
    whole: bool = Field(False, description="Use all rows, even if it takes long")
