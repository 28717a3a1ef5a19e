"""A version of a registered model: whose files it holds, and where they come from."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypedDict


class VersionFile(TypedDict):
    """A file of a version's folder, by its path in it."""

    path: str
    bytes: int
    sha256: str


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
