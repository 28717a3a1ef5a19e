"""The vocabulary of a tokenizer in the forms that other libraries read (`tokenizer.model`, `vocab.json`): the
library saves the one file that it reads itself, so that they are copied from where it was loaded."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from engine.models import base_names, models
from engine.models.tokenizer_limits import MAX_MIB

TOKENIZER = "tokenizer.json"
VOCABULARIES = (
    "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "merges.txt", "vocab.txt",
)  # fmt: skip


def add(source: str, folder: Path) -> None:
    """Those of `source`, a folder or a hub id, that the tokenizer in `folder` was saved without, where it has
    the same tokens. Of a hub only what was loaded; nothing where `source` is gone: no model needs them."""
    loaded = _loaded_folder(source)
    if loaded is None or loaded == folder or not _same_tokens(loaded, folder):
        return
    for name in VOCABULARIES:
        if not (folder / name).exists() and (content := _read(loaded / name)) is not None:
            (folder / name).write_bytes(content)


def fetch(source: str) -> None:
    """Have the hub's cache hold those of `source`, where that is a commit of the hub and none was loaded yet.
    Without the hub it stays as it is."""
    base = base_names.reference(source)
    if not base["revision"] or any((Path(source) / name).exists() for name in VOCABULARIES):
        return
    from huggingface_hub import snapshot_download

    with suppress(OSError, ValueError):
        snapshot_download(base["name"], revision=base["revision"], allow_patterns=list(VOCABULARIES))


def _loaded_folder(source: str) -> Path | None:
    try:
        return models.weights_folder(source) if source else None
    except (OSError, ValueError):  # a folder that is gone, or an id of which nothing is here
        return None


def _same_tokens(source: Path, folder: Path) -> bool:
    theirs, own = _read(source / TOKENIZER), _read(folder / TOKENIZER)
    try:
        base, saved = json.loads(theirs or b"null"), json.loads(own or b"null")
    except ValueError:  # of a hub, and no tokenizer that was loaded
        return False
    if not isinstance(base, dict) or not isinstance(saved, dict):
        return False
    return all(base.get(part) == saved.get(part) for part in ("model", "added_tokens"))


def _read(file: Path) -> bytes | None:
    """None where it isn't there, can't be read, or is larger than any tokenizer."""
    try:
        return file.read_bytes() if file.stat().st_size <= MAX_MIB[TOKENIZER] * 2**20 else None
    except OSError:
        return None
