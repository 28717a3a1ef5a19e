"""Configs for bundles, and validation of manifests of bundles from other homes."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from store.core.config import Config, Line, ModelSource
from store.core.row_schemas import Kind
from store.core.schemas import ConfigDocument

FORMAT: Literal["tunebench-bundle"] = "tunebench-bundle"
VERSION = 2  # version 1 had no seal
SHA256 = r"^[0-9a-f]{64}$"
FINGERPRINT = r"^[0-9a-f]{32}$"


class BundleConfig(Config):
    """Create a bundle of a finished run."""

    run: Line = Field(min_length=1, description="Run id or name")
    with_rows: bool = Field(True, description="Include the rows; otherwise only how they were made")


class OpenBundleConfig(Config):
    """Open and inspect a bundle."""

    upload: Line = Field(min_length=1, max_length=255, description="Uploaded file")
    model: ModelSource = Field(
        "", max_length=500, description="Local path of the base model, if not available under its name"
    )


class ReproduceConfig(Config):
    """Run what a bundle describes."""

    bundle: Line = Field(min_length=1, description="Job that opened the bundle")
    name: Line = Field(
        "", max_length=120, description="Name of the new run; default: that of the original run"
    )


class _ManifestPart(Config):
    """Part of a manifest. Unknown fields, which a later version may have, are ignored."""

    model_config = ConfigDict(extra="ignore")


class ManifestFile(_ManifestPart):
    path: str = Field(max_length=200)
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=SHA256)


class SealDocument(_ManifestPart):
    """`store.archives.schemas.BundleSeal`."""

    manifest: str = Field(pattern=SHA256)
    fields: dict[str, str]


class ManifestRun(_ManifestPart):
    run_id: Line = Field(max_length=120)
    name: Line = Field(max_length=200)
    created_at: Line = Field(max_length=40)
    kind: Line = Field(max_length=40)


class ManifestBase(_ManifestPart):
    name: Line = Field(max_length=500)
    hub_id: Line | None = None
    revision: Line | None = None
    fingerprint: str | None = Field(None, pattern=SHA256)
    tokenizer: str | None = Field(None, pattern=SHA256)


class ManifestRows(_ManifestPart):
    name: Line = Field(max_length=200)
    kind: Kind
    format: Line = Field(max_length=40)
    columns: dict[str, str]
    fingerprint: str = Field(pattern=FINGERPRINT)
    parent_fingerprint: str | None = Field(None, pattern=FINGERPRINT)
    row_count: int = Field(ge=1)
    included: bool


class ManifestOtherRows(_ManifestPart):
    role: Literal["replay", "probe"]
    name: Line = Field(max_length=200)
    fingerprint: str = Field(pattern=FINGERPRINT)


class ManifestEnvironment(_ManifestPart):
    tunebench: Line = Field(max_length=100)
    platform: Line = Field(max_length=200)
    versions: dict[str, Line]
    device: Line = Field(max_length=100)
    device_name: Line = Field(max_length=300)
    dtype: Line = Field(max_length=40)


class ManifestFigure(_ManifestPart):
    key: Line = Field(max_length=300)
    title: Line = Field(max_length=300)
    unit: Line = Field(max_length=100)
    value: float
    low: float | None
    high: float | None
    n: int = Field(ge=0)


class ManifestDocument(_ManifestPart):
    """The fields of `store.archives.schemas.BundleManifest` that are needed to run it again."""

    run: ManifestRun
    config: ConfigDocument
    base: ManifestBase
    data: ManifestRows
    others: list[ManifestOtherRows]
    environment: ManifestEnvironment
    figures: list[ManifestFigure]
    files: list[ManifestFile] = Field(max_length=100)
