"""Files that data sets were exported to: which of them a name means, and none outside their folder."""

from __future__ import annotations

import os
from pathlib import Path

from store.contract.errors import NotFoundError

NAME_BYTES = 255  # more, and no file system has such a name


def find(folder: Path, name: str) -> Path:
    """The exported file of that name. Raises NotFoundError for a name that is none of the folder's files:
    one with a folder in it, a hidden one, a link."""
    path = folder / name
    short = 0 < len(os.fsencode(name)) <= NAME_BYTES
    plain = short and not name.startswith(".") and not set(name) & set("/\\\0")
    if not plain or path.is_symlink() or not path.is_file():
        raise NotFoundError(
            f"There is no exported file {name!r}.", fix="Export the data set again.", field="name"
        )
    return path
