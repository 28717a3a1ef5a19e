"""An export's tensors by name, with shapes and checksums: noted as its writer wrote them, and compared later.

Files are read as bytes: nothing is loaded, and a file that lies about its sizes is refused.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from engine.shipping import gguf_header
from engine.shipping.publish import CHUNK, digest
from store.contract.errors import ModelError
from store.contract.jobdir import read_json
from store.contract.model_folders import count_parameters
from store.documents.shipping.export_manifest import TensorSum, WrittenWeights

FILE = "manifest.json"
MAX_SHOWN = 200  # characters of a setting that are kept as they are
MAX_LISTED = 4  # files too many, by name
CONFIG, INDEX, MODELFILE = "config.json", "model.safetensors.index.json", "Modelfile"


def of_weights(export: Path) -> WrittenWeights:
    """Of a folder, or of a GGUF file. Raises ModelError for a file that can't be what its name says."""
    if export.is_file():
        return _of_gguf(export)
    if file := gguf_of(export):
        written = _of_gguf(file)
        if (export / MODELFILE).exists():
            written["settings"][MODELFILE] = digest(export / MODELFILE)
        return written
    tensors: dict[str, TensorSum] = {}
    for file in sorted(export.glob("*.safetensors")):
        for name, tensor in _of_safetensors(file).items():
            tensors[f"{name} in {file.name}" if name in tensors else name] = tensor
    settings = _object(export / CONFIG).get("quantization_config") or {}
    if parts := _object(export / INDEX).get("weight_map"):
        settings = {**settings, INDEX: parts}
    return {"tensors": tensors, "settings": {key: _as_text(value) for key, value in sorted(settings.items())}}


def gguf_of(folder: Path) -> Path | None:
    """The GGUF file of an export. Raises ModelError where there are several: which of them is read is up to
    who reads it."""
    files = sorted(folder.glob("*.gguf"))
    if len(files) > 1:
        raise ModelError(
            f"There are {len(files)} GGUF files, and an export has a single one:"
            f" {', '.join(file.name for file in files[:MAX_LISTED])}.",
            fix="Name one of them.",
        )
    return files[0] if files else None


def _object(file: Path) -> dict[str, Any]:
    """Of JSON; nothing of a file that isn't, which is told where its content is compared."""
    try:
        document = read_json(file)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _of_safetensors(file: Path) -> dict[str, TensorSum]:
    if count_parameters(file) is None:
        raise ModelError(f"{file.name} is cut short, or is no safetensors file.", fix="Copy it again.")
    with open(file, "rb") as source:
        (length,) = struct.unpack("<Q", source.read(8))
        header: dict[str, Any] = json.loads(source.read(length))
        header.pop("__metadata__", None)
        sums: dict[str, TensorSum] = {}
        for name, tensor in header.items():
            begin, end = tensor["data_offsets"]
            source.seek(8 + length + begin)
            sums[name] = {
                "dtype": str(tensor["dtype"]),
                "shape": [int(size) for size in tensor["shape"]],
                "sha256": _sum(source, end - begin),
            }
    return sums


def _sum(source: Any, count: int) -> str:
    whole = hashlib.sha256()
    while count > 0 and (part := source.read(min(count, CHUNK))):
        whole.update(part)
        count -= len(part)
    return whole.hexdigest()


def _of_gguf(file: Path) -> WrittenWeights:
    with gguf_header.opened(file) as reader:
        fields = {key: _as_text(field.contents()) for key, field in reader.fields.items()}
        tensors: dict[str, TensorSum] = {
            tensor.name: {
                "dtype": tensor.tensor_type.name,
                "shape": [int(size) for size in reversed(tensor.shape)],
                "sha256": hashlib.sha256(tensor.data.tobytes()).hexdigest(),
            }
            for tensor in reader.tensors
        }
    settings = {key: value for key, value in fields.items() if not key.startswith("GGUF.")}
    return {"tensors": tensors, "settings": settings}


def _as_text(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return text if len(text) <= MAX_SHOWN else f"SHA-256 {hashlib.sha256(text.encode()).hexdigest()}"


def fingerprint(weights: WrittenWeights) -> str:
    """One checksum of all tensors, whatever the files in which they lie."""
    lines = (f"{name} {tensor['sha256']}\n" for name, tensor in sorted(weights["tensors"].items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
