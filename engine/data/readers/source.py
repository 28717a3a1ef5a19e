"""From what the user named to a file that may be read.

A path may be anywhere on the engine's machine but among the files of the home folder that hold no data (its
secrets, the store, logs, jobs); an upload resolves strictly inside the uploads folder, whatever its name says
and whatever symbolic links lie there. Only regular files of a disk are opened: a device or a pipe would never
end, and /proc/self/mem holds the engine's own memory.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from store.config.data.import_config import Source
from store.contract.errors import DataError
from store.contract.home import Home

OF_THE_SYSTEM = ("/proc", "/sys")  # which call a memory or a switch a regular file


def locate(home: Home, source: Source) -> Path:
    """The file of a path or an upload. Raises DataError that names it where there is none to read."""
    path = _upload(home, source.upload) if source.upload else _path(home, source.path or "")
    try:
        mode = os.stat(path).st_mode
        if any(path.resolve().is_relative_to(folder) for folder in OF_THE_SYSTEM):
            raise DataError(
                f"{path} is no file on a disk: the system makes it up while it is read.",
                fix="Copy what you need of it into a file first.",
                field="source",
            )
        if stat.S_ISDIR(mode):
            raise DataError(f"{path} is a folder.", fix="Name one file in it.", field="source")
        if not stat.S_ISREG(mode):
            raise DataError(
                f"{path} is not a regular file.", fix="Copy it into a file first.", field="source"
            )
        with open(path, "rb"):
            pass
    except OSError as error:
        raise unreadable(path, error) from error
    return path


def unreadable(path: Path, error: OSError) -> DataError:
    """The error of the operating system, in a sentence about the file."""
    if isinstance(error, FileNotFoundError):
        return DataError(
            f"There is no file {path} on the machine of the engine.", fix="Check the path.", field="source"
        )
    if isinstance(error, PermissionError):
        return DataError(
            f"{path} may not be read by the engine (permission denied).",
            fix="Give its user the right to read it, or upload a copy.",
            field="source",
        )
    return DataError(f"{path} can't be read ({error.strerror or error}).", field="source")


def _path(home: Home, text: str) -> Path:
    path = Path(text).expanduser()
    if "\0" in text or not path.is_absolute():
        raise DataError(
            f"The path {text!r} is not absolute.",
            fix="Give it in full, from the root folder.",
            field="source",
        )
    if home.holds(path):
        raise DataError(
            f"{path} is one of Tunebench's own files, not a file of data.",
            fix="Name a file outside of its home folder, an upload, an export or the rows of a data set.",
            field="source",
        )
    return path


def _upload(home: Home, name: str) -> Path:
    folder = home.uploads.resolve()
    if "\0" not in name:
        path = (folder / name).resolve()
        if path.parent == folder and Path(name).name == name:
            return path
    raise DataError(
        f"The upload {name!r} is not in the folder of uploads.", fix="Upload the file again.", field="source"
    )
