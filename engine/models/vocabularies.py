"""The vocabulary of a tokenizer in the forms that other libraries read (`tokenizer.model`, `vocab.json`): the
library saves the one file that it reads itself, so that they are copied from where it was loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.models import models
from engine.models.tokenizer_limits import MAX_MIB
from store.contract.jobdir import read_json

TOKENIZER = "tokenizer.json"
VOCABULARIES = (
    "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "merges.txt", "vocab.txt",
)  # fmt: skip


def add(source: str, folder: Path) -> None:
    """Those of `source`, a folder or a hub id, that the tokenizer in `folder` was saved without, where it has
    the same tokens."""
    if not source or Path(source) == folder or not _same_tokens(source, folder):
        return
    for name in VOCABULARIES:
        if not (folder / name).exists() and (file := models.file_of(source, name)):
            shutil.copyfile(file, folder / name)


def _same_tokens(source: str, folder: Path) -> bool:
    theirs, own = models.file_of(source, TOKENIZER), folder / TOKENIZER
    if theirs is None or not own.exists() or theirs.stat().st_size > MAX_MIB[TOKENIZER] * 2**20:
        return False
    try:
        base, saved = read_json(theirs), read_json(own)
    except ValueError:  # of a hub, and no tokenizer that was loaded
        return False
    if not isinstance(base, dict) or not isinstance(saved, dict):
        return False
    return all(base.get(part) == saved.get(part) for part in ("model", "added_tokens"))
