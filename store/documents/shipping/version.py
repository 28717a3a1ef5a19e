"""A version of a registered model: whose files it holds, and where they come from."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NotRequired, TypedDict


class VersionFile(TypedDict):
    """A file of a version's folder, by its path in it."""

    path: str
    bytes: int
    sha256: str
    modified_ns: NotRequired[int]  # when it was written, Unix time: another one is reason to hash it again


class VersionSeal(TypedDict):
    """The file NUMBER.json beside a version's folder: what a worker knows of it."""

    reference: str  # NAME@NUMBER
    job_id: str  # that made it
    files: list[VersionFile]


class RegisteredFiles(TypedDict):
    """What the job `register` leaves in its folder, before it is given its number."""

    base_model: str | None
    adapter: bool
    fingerprint: str
    files: list[VersionFile]
    notices: list[str]


class VersionSource(TypedDict):
    """What was registered: what a run left (`checkpoint`: tuned, best or newest), or a folder as it was."""

    kind: Literal["run", "folder"]
    run_id: str | None
    run_name: str | None  # as it was
    checkpoint: str | None
    path: str | None  # of an imported folder


class ModelVersion(TypedDict):
    """A row of `model_version`, with the name of its model. A version is never changed: `files` is what its
    folder has to hold."""

    model_id: str
    name: str  # of the model
    version: int  # 1 is the first
    source: VersionSource
    run_id: str | None
    base_model: str | None  # name or hub id of what an adapter belongs to; null for an imported whole model
    adapter: bool  # an adapter, and not whole weights
    folder: str  # beneath the home folder
    fingerprint: str  # SHA-256 over paths and checksums of all files
    files: list[VersionFile]
    notes: str
    created_by: str  # a person's id
    created_by_name: str  # as it was
    created_at: datetime


class VersionLine(TypedDict):
    """A version in a list, without its files."""

    model_id: str
    name: str
    version: int
    source: VersionSource
    run_id: str | None
    base_model: str | None
    adapter: bool
    fingerprint: str
    notes: str
    created_by: str
    created_by_name: str
    created_at: datetime
    aliases: list[str]
    bytes: int | None  # of all files; null where it was not asked for
    run_present: bool  # the run that it came from is still there


class ModelLine(TypedDict):
    """A registered model in a list."""

    model_id: str
    name: str
    description: str
    created_by_name: str
    created_at: datetime
    versions: int
    newest: int | None  # its number; null where all were deleted
    newest_at: datetime | None
    production: int | None  # the version that holds the alias production


class AliasNow(TypedDict):
    """Where an alias stands."""

    alias: str
    version: int
    moved_at: datetime
