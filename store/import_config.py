"""What an import may say: where the rows come from, how they are read, and how they are split by default.

What is left out is recognised from the file itself (`engine.data.readers`); a name is made from the file's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from store.config import Split
from store.document import Config, Line
from store.formats import FORMATS, FormatName

FILE_ENDINGS = frozenset({".gz", ".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt"})


class Source(Config):
    """Where rows come from: exactly one of a path on this machine, an upload, a hub id, or a built-in set."""

    path: str | None = Field(None, description="A file on the machine of the engine")
    upload: str | None = Field(None, description="The name of a file that was uploaded")
    hub_id: str | None = Field(None, description="owner/name of a data set on the Hugging Face hub")
    hub_config: str | None = None
    hub_split: str = "train"
    builtin: Literal["python"] | None = Field(None, description="Rows made from this machine's own Python")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(bool(v) for v in (self.path, self.upload, self.hub_id, self.builtin)) != 1:
            raise ValueError("give exactly one of path, upload, hub_id and builtin")
        return self


def suggested_name(source: Mapping[str, Any]) -> str:
    """A name for a data set, from its file's: "banking77_train.csv.gz" gives "banking77 train"."""
    where = source.get("path") or source.get("upload") or source.get("hub_id") or source.get("builtin") or ""
    stem = PurePath(str(where)).name
    for _ in range(2):
        if PurePath(stem).suffix.lower() in FILE_ENDINGS:
            stem = PurePath(stem).stem
    return " ".join(stem.replace("_", " ").replace("-", " ").split())[:80]


class ImportConfig(Split):
    """One import. `format` and `columns` left out are recognised from the first rows."""

    name: Line = Field("", max_length=80, description="From the name of the file where left out")
    source: Source
    format: FormatName | None = None
    columns: dict[str, str] = Field(default_factory=dict, description="role -> column of the file")
    has_header: bool | None = Field(None, description="CSV and TSV: the first line names the columns")
    encoding: str | None = Field(None, description="Recognised where left out: utf-8, utf-16, latin-1")
    instruction: str = Field("", description="Text and label: put before each text, to say what is asked")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, document: Any) -> Any:
        unnamed = isinstance(document, dict) and not document.get("name")
        if unnamed and isinstance(source := document.get("source"), dict):
            return document | {"name": suggested_name(source)}
        return document

    @model_validator(mode="after")
    def _roles_exist(self) -> Self:
        if self.format:
            known = FORMATS[self.format].required + FORMATS[self.format].optional
            for role in self.columns:
                if role not in known:
                    raise ValueError(f"columns has the role {role!r}; {self.format} has {', '.join(known)}")
        return self
