"""What an export holds by name, as its writer wrote it: `manifest.json` of its folder."""

from __future__ import annotations

from typing import TypedDict


class TensorSum(TypedDict):
    """A tensor as it lies in a file."""

    dtype: str  # as the file's format names it
    shape: list[int]
    sha256: str  # of its bytes


class BaseFingerprint(TypedDict):
    """The model beneath an adapter."""

    name: str  # by which others know it
    revision: str | None
    sha256: str  # over names and checksums of its tensors


class WrittenWeights(TypedDict):
    """The files of weights, tensor by tensor."""

    tensors: dict[str, TensorSum]
    settings: dict[
        str, str
    ]  # beside them: fields of a GGUF file, how weights were quantised; long ones by SHA-256


class ExportManifest(WrittenWeights):
    """All of it, with what it stands on."""

    form: str
    base: BaseFingerprint | None  # null for whole weights
