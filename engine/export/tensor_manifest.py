"""Tensors of an export by name, with shapes and checksums, recorded when written and compared later.

Files are read as bytes and nothing is loaded. A GGUF file's header is validated before the reader sees it,
and a file with false sizes is refused.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from engine.export.publication import CHUNK, compute_file_digest
from store.core.errors import ModelError
from store.core.export_schemas import TensorChecksum, WrittenWeights
from store.core.job_folder import read_json
from store.core.model_folders import MAX_HEADER, count_parameters

if TYPE_CHECKING:
    from gguf import GGUFReader

# GGUF files may be untrusted: all lengths must be within the file, as readers trust its counts, and one that
# claims 2**60 entries would keep them busy forever.

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of the scalar types
MAX_DIMENSIONS = 4


def check_header(file: Path) -> None:
    """Raise ModelError for a file that is truncated or not a GGUF file."""
    try:
        with open(file, "rb") as source:
            _Header(source, file.stat().st_size).walk()
    except (OSError, ValueError, struct.error) as error:
        raise _build_file_error(file, error) from error


@contextmanager
def open_gguf(file: Path) -> Iterator[GGUFReader]:
    """Open a file with the library's reader.

    Raises: ModelError if opening it, or reading inside the context, fails: a valid header may list tensors
    beyond the end of the file.
    """
    check_header(file)
    from gguf import GGUFReader

    try:
        yield GGUFReader(file)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise _build_file_error(file, error) from error


def _build_file_error(file: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{file.name} is truncated or not a GGUF file: {error}.", fix="Copy or export it again."
    )


class _Header:
    """Validator of a GGUF header; raises ValueError for impossible values."""

    def __init__(self, source: BinaryIO, size: int) -> None:
        self.source, self.size = source, min(size, MAX_HEADER)

    def walk(self) -> None:
        """Read the fields, then the list of tensors."""
        if self.source.read(4) != MAGIC or self._number("<I") not in VERSIONS:
            raise ValueError("invalid header")
        tensors, fields = self._number("<Q"), self._number("<Q")
        for _ in range(fields):
            self._skip(self._number("<Q"))
            self._value(self._number("<I"))
        for _ in range(tensors):
            self._skip(self._number("<Q"))
            dimensions = self._number("<I")
            if dimensions > MAX_DIMENSIONS:
                raise ValueError(f"a tensor has {dimensions} dimensions")
            self._skip(8 * dimensions + 12)

    def _value(self, kind: int) -> None:
        if kind == STRING:
            self._skip(self._number("<Q"))
        elif kind == ARRAY:
            entry, count = self._number("<I"), self._number("<Q")
            if entry == STRING:
                for _ in range(count):
                    self._skip(self._number("<Q"))
            else:
                self._skip(self._size(entry) * count)
        else:
            self._skip(self._size(kind))

    def _size(self, kind: int) -> int:
        if kind not in SIZES:
            raise ValueError(f"unknown field type {kind}")
        return SIZES[kind]

    def _number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.source.read(struct.calcsize(form)))
        return int(value)

    def _skip(self, count: int) -> None:
        if self.source.tell() + count > self.size:
            raise ValueError("a length in the header exceeds the file")
        self.source.seek(count, 1)


FILE = "manifest.json"
MAX_SHOWN = 200  # maximum characters of a setting stored verbatim
MAX_LISTED = 4  # names listed in an error
CONFIG, INDEX, MODELFILE = "config.json", "model.safetensors.index.json", "Modelfile"


def read_weights(export: Path) -> WrittenWeights:
    """Read the tensors of a folder or a GGUF file. Raises ModelError for an invalid file."""
    if export.is_file():
        return _read_gguf(export)
    if file := find_gguf(export):
        written = _read_gguf(file)
        if (export / MODELFILE).exists():
            written["settings"][MODELFILE] = compute_file_digest(export / MODELFILE)
        return written
    tensors: dict[str, TensorChecksum] = {}
    for file in sorted(export.glob("*.safetensors")):
        for name, tensor in _read_safetensors(file).items():
            tensors[f"{name} in {file.name}" if name in tensors else name] = tensor
    settings = _read_object(export / CONFIG).get("quantization_config") or {}
    if parts := _read_object(export / INDEX).get("weight_map"):
        settings = {**settings, INDEX: parts}
    return {
        "tensors": tensors,
        "settings": {key: _format_value(value) for key, value in sorted(settings.items())},
    }


def find_gguf(folder: Path) -> Path | None:
    """Return the GGUF file of an export, or None.

    Raises: ModelError if there are several, as it is undefined which of them is read.
    """
    files = sorted(folder.glob("*.gguf"))
    if len(files) > 1:
        raise ModelError(
            f"{len(files)} GGUF files where an export has one:"
            f" {', '.join(file.name for file in files[:MAX_LISTED])}.",
            fix="Give one of the files.",
        )
    return files[0] if files else None


def _read_object(file: Path) -> dict[str, Any]:
    """Read a JSON object; return {} for an invalid file, which is reported when its content is compared."""
    try:
        document = read_json(file)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _read_safetensors(file: Path) -> dict[str, TensorChecksum]:
    if count_parameters(file) is None:
        raise ModelError(f"{file.name} is truncated or not a safetensors file.", fix="Copy it again.")
    with open(file, "rb") as source:
        (length,) = struct.unpack("<Q", source.read(8))
        header: dict[str, Any] = json.loads(source.read(length))
        header.pop("__metadata__", None)
        sums: dict[str, TensorChecksum] = {}
        for name, tensor in header.items():
            begin, end = tensor["data_offsets"]
            source.seek(8 + length + begin)
            sums[name] = {
                "dtype": str(tensor["dtype"]),
                "shape": [int(size) for size in tensor["shape"]],
                "sha256": _hash_tensor(source, end - begin),
            }
    return sums


def _hash_tensor(source: Any, count: int) -> str:
    whole = hashlib.sha256()
    while count > 0 and (part := source.read(min(count, CHUNK))):
        whole.update(part)
        count -= len(part)
    return whole.hexdigest()


def _read_gguf(file: Path) -> WrittenWeights:
    with open_gguf(file) as reader:
        fields = {key: _format_value(field.contents()) for key, field in reader.fields.items()}
        tensors: dict[str, TensorChecksum] = {
            tensor.name: {
                "dtype": tensor.tensor_type.name,
                "shape": [int(size) for size in reversed(tensor.shape)],
                "sha256": hashlib.sha256(tensor.data.tobytes()).hexdigest(),
            }
            for tensor in reader.tensors
        }
    settings = {key: value for key, value in fields.items() if not key.startswith("GGUF.")}
    return {"tensors": tensors, "settings": settings}


def _format_value(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return text if len(text) <= MAX_SHOWN else f"SHA-256 {hashlib.sha256(text.encode()).hexdigest()}"


def compute_fingerprint(weights: WrittenWeights) -> str:
    """Return one checksum of all tensors, independent of how they are split into files."""
    lines = (f"{name} {tensor['sha256']}\n" for name, tensor in sorted(weights["tensors"].items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
