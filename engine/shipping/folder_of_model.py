"""A folder from elsewhere that is to be registered: what may be in it, and what kind of model it is.

Files are known by their names alone before any is read: weights are safetensors, never pickle, and no code.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from engine.shipping.model_settings import ModelSettings
from store.contract.errors import ModelError
from store.contract.jobdir import read_json
from store.contract.model_folders import TOKENIZER_FILES, count_parameters

SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model", ".md", ".license")
NAMES = ("license", "notice")
MOST_FILES = 2_000
FIELD = "path"


@dataclass(frozen=True)
class FolderModel:
    """What lies in the folder. `base`: as an adapter's settings name it; `labels`: of a classifier."""

    files: list[str]
    adapter: bool
    base: str
    labels: list[str]
    tokenizer: bool


def look(folder: Path) -> FolderModel:
    """Look through it. Raises ModelError that names the first file that can't be part of a model."""
    if not folder.is_dir():
        raise ModelError(
            f"There is no folder {folder}.", fix="Give the path of a model's folder.", field=FIELD
        )
    files = _files(folder)
    settings = _document(folder, "adapter_config.json")
    config = _document(folder, "config.json")
    weights = [name for name in files if name.endswith(".safetensors")]
    _check_weights(folder, weights)
    if settings:
        if "adapter_model.safetensors" not in files:
            raise _not_a_model(folder, "adapter_model.safetensors")
        labels = (_document(folder, "tunebench.json") or {}).get("labels") or []
        if settings.get("task_type") == "SEQ_CLS" and not labels:
            raise ModelError(
                "The adapter is of a classifier, and no file says which labels its classes have.",
                fix="Register the run that trained it, or merge it into its base first.",
                field=FIELD,
            )
        base = str(settings.get("base_model_name_or_path") or "")
        return FolderModel(files, True, base, labels, _has_tokenizer(files))
    if not config:
        raise _not_a_model(folder, "config.json, and no adapter_config.json")
    if not weights:
        raise _not_a_model(folder, "safetensors weights")
    if not _has_tokenizer(files):
        raise _not_a_model(folder, "tokenizer")
    return FolderModel(files, False, "", _labels(config), True)


def _files(folder: Path) -> list[str]:
    files = plain_files(folder)
    for name in files:
        path = Path(name)
        if not (path.name.lower().endswith(SUFFIXES) or path.name.lower() in NAMES):
            raise _refused(name, "is no part of a model that can be registered")
    return files


def plain_files(folder: Path) -> list[str]:
    """The files by their paths within the folder. Raises ModelError for links to places outside, for what is
    no plain file, and for too many."""
    files = []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise _refused(name, "is a link to a place outside of the folder")
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode):
            raise _refused(name, "is no plain file")
        files.append(name)
        if len(files) > MOST_FILES:
            raise ModelError(f"The folder has more than {MOST_FILES:,} files.", field=FIELD)
    return files


def _check_weights(folder: Path, weights: list[str]) -> None:
    for name in weights:
        if count_parameters(folder / name) is None:
            raise _refused(name, "is cut short, or is no safetensors file")
    index = _document(folder, "model.safetensors.index.json") or {}
    parts = index.get("weight_map")
    for name in sorted(set(parts.values())) if isinstance(parts, dict) else []:
        if name not in weights:
            raise ModelError(
                f"The file {name} is missing, which model.safetensors.index.json names.",
                fix="Copy all files of the model.",
                field=FIELD,
            )


def _labels(config: ModelSettings) -> list[str]:
    """Of a whole classifier, in the order of its classes."""
    kinds = config.get("architectures") or [""]
    names = config.get("id2label")
    if not str(kinds[0]).endswith("ForSequenceClassification") or not isinstance(names, dict):
        return []
    return [str(names[key]) for key in sorted(names, key=int)]


def _has_tokenizer(files: list[str]) -> bool:
    return any(name in files for name in TOKENIZER_FILES)


def _document(folder: Path, name: str) -> ModelSettings | None:
    try:
        document = read_json(folder / name)
    except ValueError as error:
        raise _refused(name, "is not JSON") from error
    return document if isinstance(document, dict) else None


def _refused(name: str, what: str) -> ModelError:
    return ModelError(
        f"The file {name} {what}.",
        fix="Copy config, safetensors weights and tokenizer alone into a folder of their own.",
        field=FIELD,
    )


def _not_a_model(folder: Path, lacking: str) -> ModelError:
    return ModelError(
        f"The folder {folder} is no model: it has no {lacking}.",
        fix="Name a folder that save_pretrained() wrote, with safetensors and a tokenizer.",
        field=FIELD,
    )
