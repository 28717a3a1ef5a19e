"""Detection of the export format of an external folder or file.

The format is detected from the files only; no code of theirs is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from engine.export import tensor_manifest
from engine.models.model_folder import list_plain_files
from store.core.errors import ConfigError, ModelError, NotFoundError
from store.core.job_folder import read_json
from store.export.forms import FORMS, GGUF_FORMS, OLLAMA_GGUF


class DetectedFormat(NamedTuple):
    """Detected format; gguf: format of Ollama's GGUF file."""

    form: str
    gguf: str


def check_location(path: Path) -> None:
    """Raise NotFoundError for a missing path, ModelError for links out of the folder or special files."""
    if path.is_dir():
        list_plain_files(path)
    elif not path.is_file():
        raise NotFoundError(
            f"No such file or folder: {path}.",
            fix="Give the folder of an export, or a GGUF file.",
            field="path",
        )


def detect_format(path: Path) -> DetectedFormat:
    """Return the format. Raises ModelError for files that are no export, ConfigError for ambiguous ones."""
    if path.is_file():
        return DetectedFormat(_detect_gguf(path), OLLAMA_GGUF)
    files = sorted(path.glob("*.gguf"))
    if len(files) > 1:
        raise ConfigError(
            f"{path} contains {len(files)} GGUF files.", fix="Give one of the files.", field="path"
        )
    if files:
        form = _detect_gguf(files[0])
        return DetectedFormat("ollama", form) if (path / "Modelfile").exists() else DetectedFormat(form, form)
    if (path / "adapter_model.safetensors").exists():
        return DetectedFormat("adapter", OLLAMA_GGUF)
    return DetectedFormat(_detect_weights(path), OLLAMA_GGUF)


def _detect_gguf(file: Path) -> str:
    with tensor_manifest.open_gguf(file) as reader:
        field = reader.fields.get("general.file_type")
        kind = int(field.contents()) if field else -1
    form = next((name for name in GGUF_FORMS if FORMS[name].ftype == kind), None)
    if form is None:
        raise ModelError(
            f"{file.name} has the unsupported GGUF file type {kind}.",
            fix="Export the model again.",
            field="path",
        )
    return form


def _detect_weights(folder: Path) -> str:
    tensors = tensor_manifest.read_weights(folder)["tensors"]
    if not tensors:
        raise ModelError(
            f"{folder} contains neither safetensors weights nor a GGUF file.",
            fix="Give the folder of an export.",
            field="path",
        )
    try:
        settings: Any = read_json(folder / tensor_manifest.CONFIG)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{tensor_manifest.CONFIG} in {folder} is not valid JSON: the format can't be detected.",
            fix="Copy the folder again, or give the form.",
            field="form",
        ) from error
    quantised = settings.get("quantization_config") if isinstance(settings, dict) else None
    if isinstance(quantised, dict):
        return _detect_quantised(quantised)
    whole = all(tensor["dtype"] == "F32" for tensor in tensors.values())
    return "merged-f32" if whole else "merged"


def _detect_quantised(settings: dict[str, object]) -> str:
    if settings.get("quant_method") == "compressed-tensors":
        groups = settings.get("config_groups")
        inputs = (
            [group.get("input_activations") for group in groups.values()] if isinstance(groups, dict) else []
        )
        return "compressed-tensors-w8a8" if any(inputs) else "compressed-tensors"
    return "int4" if settings.get("load_in_4bit") else "int8"
