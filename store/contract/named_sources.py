"""Fields that name something of the engine's machine by a name or a path: models, files, folders.

Each such field of a config has one of these types, so that whoever is to decide whether a person may name it
(`engine.server.acts.named_sources`) finds it in any body, however deep, and no new field is forgotten.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from store.contract.document import Line

# model: a name of the home folder, NAME@3, a hub id or a path; subject: one of these, a run or an address;
# file and folder: a path
SourceKind = Literal["model", "subject", "file", "folder"]


@dataclass(frozen=True)
class SourceMark:
    """Marks a field by what it names."""

    kind: SourceKind


ModelSource = Annotated[Line, SourceMark("model")]
SubjectSource = Annotated[Line, SourceMark("subject")]
FileSource = Annotated[str, SourceMark("file")]
FolderSource = Annotated[Line, SourceMark("folder")]


class NamedSource(NamedTuple):
    """What a body names, and in which of its fields: "source.path"."""

    field: str
    kind: SourceKind
    value: str


def may_be_path(name: str, *, of_run: bool) -> bool:
    """Whether anybody who resolves the name could take it for a path. of_run: it may be the name of a run, in
    which there may be slashes; ids of a hub have one at most."""
    if name.startswith(("/", "\\", ".", "~")) or ".." in Path(name).parts:
        return True
    if of_run and "/" not in name:
        return False
    return os.path.lexists(name) or (not of_run and name.count("/") > 1)


def named_in(body: BaseModel) -> Iterator[NamedSource]:
    """All that a body names, however deep."""
    yield from _within(body, None, "")


def named_in_part(config: type[BaseModel], document: Mapping[str, Any], at: str) -> Iterator[NamedSource]:
    """What a document names that may lack fields of its config, or have bad ones. at: where it stands."""
    for name, field in config.model_fields.items():
        kind, value = kind_of(field), document.get(name)
        if kind and isinstance(value, str):
            yield NamedSource(f"{at}.{name}", kind, value.strip())


def kind_of(field: FieldInfo) -> SourceKind | None:
    """What a field names; None where it names nothing of the machine."""
    marks = [*field.metadata, *_marks(field.annotation)]
    return next((mark.kind for mark in marks if isinstance(mark, SourceMark)), None)


def _marks(annotation: Any) -> Iterator[Any]:
    """Those of what a list holds, or a field that may be null."""
    yield from getattr(annotation, "__metadata__", ())
    for part in get_args(annotation):
        yield from _marks(part)


def _within(part: Any, kind: SourceKind | None, at: str) -> Iterator[NamedSource]:
    if isinstance(part, str):
        if kind:
            yield NamedSource(at, kind, part)
    elif isinstance(part, BaseModel):
        for name, field in type(part).model_fields.items():
            yield from _within(getattr(part, name), kind_of(field), f"{at}.{name}".lstrip("."))
    elif isinstance(part, Mapping):
        for key, entry in part.items():
            yield from _within(entry, kind, f"{at}.{key}")
    elif isinstance(part, list | tuple):
        for place, entry in enumerate(part):
            yield from _within(entry, kind, f"{at}.{place}")
