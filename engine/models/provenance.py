"""Provenance of a model: its base by hub id and commit, or else by the plain folder name, and its note.

The note, `tunebench.json` beside a model from elsewhere, is untrusted. As it is copied into model cards and
names what is downloaded, only values that Tunebench itself would write are read from it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from store.core.errors import ModelError
from store.core.job_folder import read_json
from store.core.model_folders import TOKENIZER_FILES
from store.core.model_schemas import BaseReference, ModelNote
from store.training.methods import METHODS

SNAPSHOTS = "snapshots"  # the hub's cache: models--OWNER--NAME/snapshots/COMMIT
CACHE_PREFIX = "models--"
LOADED_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "README.md"]
OTHER_FILES = ["*/*", "consolidated*"]  # the same weights in the formats of other libraries
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
REVISION = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")  # a commit, a tag or a branch
_SHARD = re.compile(r".+-of-(\d+)\.safetensors")


def build_model_reference(model: Any) -> BaseReference:
    """Build the reference to the base of a model loaded by `from_pretrained`, with or without an adapter."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    return build_reference(base.config._name_or_path, getattr(base.config, "_commit_hash", None))


def build_reference(source: str, commit: str | None = None) -> BaseReference:
    """Build the reference to a folder or hub id.

    `commit`: the hub's commit, as recorded by `loading.load_model`.
    """
    folder = Path(source)
    if folder.parent.name == SNAPSHOTS and folder.parents[1].name.startswith(CACHE_PREFIX):
        source, commit = folder.parents[1].name.removeprefix(CACHE_PREFIX).replace("--", "/"), folder.name
    elif folder.is_absolute() or folder.is_dir():
        return {"name": folder.resolve().name, "hub_id": None, "revision": None}
    return {"name": source, "hub_id": source, "revision": commit}


def find_pinned_folder(source: str, base: BaseReference) -> str:
    """Return the folder of the base's recorded commit if `source` is its hub id; otherwise return `source`.

    The hub's newest commit may have other weights. Raises ModelError if the recorded commit is no longer
    available.
    """
    if not base["revision"] or source != base["hub_id"]:
        return source
    from huggingface_hub import snapshot_download

    with suppress(OSError, ValueError):  # not in the cache
        cached = snapshot_download(source, revision=base["revision"], local_files_only=True)
        if _is_whole(Path(cached)):  # a commit never changes, so the hub isn't queried
            return cached
    try:
        return snapshot_download(
            source, revision=base["revision"], allow_patterns=LOADED_FILES, ignore_patterns=OTHER_FILES
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The commit {base['revision'][:12]} of {source}, which the model was trained on, is neither in"
            " the hub's cache here nor to be had from the hub.",
            fix="Connect to the hub, or restore its cache.",
            field="model",
        ) from error


def _is_whole(folder: Path) -> bool:
    """Return whether a snapshot has all files needed to load it."""
    weights = [file.name for file in folder.glob("*.safetensors") if file.exists()]
    shards = [match for name in weights if (match := _SHARD.fullmatch(name))]
    has_weights = all(len(shards) >= int(shard[1]) for shard in shards) if shards else bool(weights)
    has_tokenizer = any((folder / name).exists() for name in TOKENIZER_FILES)
    return has_weights and has_tokenizer and (folder / "config.json").exists()


def shorten_name(model: str) -> str:
    """Return the config's model name without a folder's path."""
    return build_reference(str(Path(model).expanduser()) if model.startswith("~") else model)["name"]


NOTE = "tunebench.json"
MAX_NAME = 255  # characters of a folder name


class _BaseFields(BaseModel):
    """Validated form of a reference as returned by `build_reference`."""

    model_config = ConfigDict(strict=True)

    name: str = Field(min_length=1, max_length=MAX_NAME)
    hub_id: str | None = None
    revision: str | None = None

    @model_validator(mode="after")
    def _has_its_form(self) -> Self:
        if self.hub_id is not None:
            right = self.name == self.hub_id and HUB_ID.fullmatch(self.hub_id) is not None
        else:
            right = self.name.isprintable() and not {"/", "\\"} & {*self.name}
        if not right or (self.revision is not None and not REVISION.fullmatch(self.revision)):
            raise ValueError("It isn't a reference to a base model.")
        return self


class _NoteFields(BaseModel):
    """Validated fields of a note: those where a wrong value could do harm."""

    model_config = ConfigDict(strict=True)

    base_model: str = Field(min_length=1, max_length=MAX_NAME)
    method: str
    held: Literal["", "nf4", "int8"]
    labels: list[str] | None = None

    @field_validator("method")
    @classmethod
    def _is_one(cls, method: str) -> str:
        if method not in METHODS:
            raise ValueError("There is no such method.")
        return method


def read_note(folder: Path) -> ModelNote | None:
    """Read the note beside a model, dropping an invalid base.

    None if there is no note, or if it isn't one that Tunebench would write.
    """
    try:
        note = read_json(folder / NOTE)
    except (ValueError, RecursionError):
        return None
    if not _is_valid(_NoteFields, note):
        return None
    if not _is_valid(_BaseFields, note.get("base")):
        note = {name: value for name, value in note.items() if name != "base"}
    return cast(ModelNote, note)


def _is_valid(kind: type[BaseModel], document: Any) -> bool:
    try:
        kind.model_validate(document)
    except ValidationError:
        return False
    return True
