"""Inspection of a model folder from an unknown source: whether its files are acceptable, and its kind.

Only the files are examined; nothing in them is run.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.core.errors import ModelError
from store.core.job_folder import read_json
from store.core.model_folders import TOKENIZER_FILES, count_parameters

SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model", ".md", ".license")
NAMES = ("license", "notice")
MAX_FILES = 2_000
FIELD = "path"


@dataclass(frozen=True)
class FolderModel:
    """Contents of a model folder. `base`: as named in an adapter's settings; `labels`: of a classifier."""

    files: list[str]
    adapter: bool
    base: str
    labels: list[str]
    tokenizer: bool


def inspect_folder(folder: Path) -> FolderModel:
    """Inspect the folder. Raises ModelError naming the first file that can't be part of a model."""
    if not folder.is_dir():
        raise ModelError(
            f"There is no folder {folder}.", fix="Give the path of a model's folder.", field=FIELD
        )
    files = _list_files(folder)
    settings = _read_document(folder, "adapter_config.json")
    config = _read_document(folder, "config.json")
    weights = [name for name in files if name.endswith(".safetensors")]
    _check_weights(folder, weights)
    if settings:
        if "adapter_model.safetensors" not in files:
            raise _build_model_error(folder, "adapter_model.safetensors")
        labels = (_read_document(folder, "tunebench.json") or {}).get("labels") or []
        if settings.get("task_type") == "SEQ_CLS" and not labels:
            raise ModelError(
                "The adapter is a classifier, but no file lists its labels.",
                fix="Register the run that trained it, or merge it into its base first.",
                field=FIELD,
            )
        base = str(settings.get("base_model_name_or_path") or "")
        return FolderModel(files, True, base, labels, _has_tokenizer(files))
    if not config:
        raise _build_model_error(folder, "config.json, and no adapter_config.json")
    if not weights:
        raise _build_model_error(folder, "safetensors weights")
    if not _has_tokenizer(files):
        raise _build_model_error(folder, "tokenizer")
    return FolderModel(files, False, "", _read_labels(config), True)


def _list_files(folder: Path) -> list[str]:
    files = list_plain_files(folder)
    for name in files:
        path = Path(name)
        if not (path.name.lower().endswith(SUFFIXES) or path.name.lower() in NAMES):
            raise _build_file_error(name, "is not part of a model that can be registered")
    return files


def list_plain_files(folder: Path) -> list[str]:
    """Return the files' paths relative to the folder.

    Raises ModelError for links to places outside, for anything but regular files, and for too many files.
    """
    files = []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise _build_file_error(name, "is a link to a place outside of the folder")
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode):
            raise _build_file_error(name, "is not a regular file")
        files.append(name)
        if len(files) > MAX_FILES:
            raise ModelError(f"The folder has more than {MAX_FILES:,} files.", field=FIELD)
    return files


def _check_weights(folder: Path, weights: list[str]) -> None:
    for name in weights:
        if count_parameters(folder / name) is None:
            raise _build_file_error(name, "is truncated, or not a safetensors file")
    index = _read_document(folder, "model.safetensors.index.json") or {}
    parts = index.get("weight_map")
    for name in sorted(set(parts.values())) if isinstance(parts, dict) else []:
        if name not in weights:
            raise ModelError(
                f"The file {name} is missing, which model.safetensors.index.json names.",
                fix="Copy all files of the model.",
                field=FIELD,
            )


def _read_labels(config: Mapping[str, Any]) -> list[str]:
    """Return the labels of a full classifier in the order of its classes."""
    kinds = config.get("architectures") or [""]
    names = config.get("id2label")
    if not str(kinds[0]).endswith("ForSequenceClassification") or not isinstance(names, dict):
        return []
    return [str(names[key]) for key in sorted(names, key=int)]


def _has_tokenizer(files: list[str]) -> bool:
    return any(name in files for name in TOKENIZER_FILES)


def _read_document(folder: Path, name: str) -> Mapping[str, Any] | None:
    try:
        document = read_json(folder / name)
    except ValueError as error:
        raise _build_file_error(name, "is not JSON") from error
    return document if isinstance(document, dict) else None


def _build_file_error(name: str, what: str) -> ModelError:
    return ModelError(
        f"The file {name} {what}.",
        fix="Copy config, safetensors weights and tokenizer alone into a folder of their own.",
        field=FIELD,
    )


def _build_model_error(folder: Path, lacking: str) -> ModelError:
    return ModelError(
        f"The folder {folder} is not a model: it has no {lacking}.",
        fix="Name a folder that save_pretrained() wrote, with safetensors and a tokenizer.",
        field=FIELD,
    )
