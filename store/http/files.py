"""Uploaded and exported files: written to and read from their own folders only."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import unicodedata
from pathlib import Path

import anyio.to_thread
from starlette.requests import Request

from store.core.errors import ConfigError, DataError, NotFoundError, TooLargeError, TunebenchError
from store.core.home import SPARE_BYTES
from store.http.request_bodies import drain, get_declared_bytes

# Uploads from the browser or the command line, written to the uploads folder only.
#
# Invariant: a file under its final name is complete and never replaces another. On any error nothing is left
# of it, and if the engine was killed, nothing from the next start on. A file is never held in memory, and
# leaves `SPARE_BYTES` of the disk free.

UPLOAD_NAME_BYTES = 200  # leaves room for a suffix within the 255 bytes of a file name
BLOCK_BYTES = 4 * 1024 * 1024  # bytes written at a time
FILE_BYTES = 2 * 2**30  # same as `maxUploadSize` of the screens, which hold a file in memory until it is sent
_ASIDE = ".upload-"


def sanitise_file_name(name: str) -> str:
    """Return the name as a plain file name: no folders, no leading dot, no control characters, limited
    length.

    Raises ConfigError (field upload) if nothing is left of it.
    """
    last = (
        unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode())
        .replace("\\", "/")
        .split("/")[-1]
    )
    clean = re.sub(r"[\x00-\x1f\x7f]", "", last).strip().lstrip(". ")
    if not clean:
        raise ConfigError(
            f"{name!r} is not a file name.", fix="Give the file a name such as rows.csv.", field="upload"
        )
    stem, suffix = _split_suffix(clean)
    size = UPLOAD_NAME_BYTES - len(suffix.encode())
    return stem.encode()[:size].decode("utf-8", "ignore") + suffix


async def save(folder: Path, name: str, request: Request) -> str:
    """Write the body of a request to `folder` and return the file name, with ` (2)` appended if it is taken.

    Raises TooLargeError for more than `FILE_BYTES`, DataError if the disk can't store it, and
    ClientDisconnect if the client has disconnected.
    """
    name = sanitise_file_name(name)
    aside = folder / f"{_ASIDE}{secrets.token_hex(8)}"
    stream = request.stream()
    written = 0
    try:
        _check_room(folder, name, get_declared_bytes(request), 0)
        with open(aside, "xb", buffering=BLOCK_BYTES) as file:
            async for chunk in stream:
                if written // BLOCK_BYTES != (written + len(chunk)) // BLOCK_BYTES:
                    _check_room(folder, name, written + len(chunk), written)
                await anyio.to_thread.run_sync(file.write, chunk)
                written += len(chunk)
            await anyio.to_thread.run_sync(_flush, file.fileno(), file.flush)
        return _publish(aside, folder, name)
    except TunebenchError:
        aside.unlink(missing_ok=True)
        await drain(request, stream)
        raise
    except OSError as error:
        aside.unlink(missing_ok=True)
        await drain(request, stream)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _make_no_room_error(name) from error
        raise DataError(
            f"{name!r} could not be written ({error.strerror}). No part of the file was saved."
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def remove_stale(folder: Path) -> None:
    """Remove partial uploads left by an engine that was killed; called at start."""
    for left in folder.glob(f"{_ASIDE}*"):
        left.unlink(missing_ok=True)


def _check_room(folder: Path, name: str, size: int, written: int) -> None:
    """Raise if a file of `size` bytes, `written` of them already on disk, exceeds the limits."""
    if size > FILE_BYTES:
        raise TooLargeError(
            f"{name!r} is larger than {FILE_BYTES / 2**30:g} GiB, the limit of an upload.",
            fix="Copy it to the machine of the engine and give its path.",
            field="upload",
        )
    if size - written > shutil.disk_usage(folder).free - SPARE_BYTES:
        raise _make_no_room_error(name)


def _flush(descriptor: int, flush: object) -> None:
    flush()  # type: ignore[operator]
    os.fsync(descriptor)


def _publish(aside: Path, folder: Path, name: str) -> str:
    """Give the file its name. A hard link never replaces an existing file, so two uploads can't collide."""
    stem, suffix = _split_suffix(name)
    number, chosen = 1, name
    while True:
        try:
            os.link(aside, folder / chosen)
            return chosen
        except FileExistsError:
            number += 1
            chosen = f"{stem} ({number}){suffix}"


def _split_suffix(name: str) -> tuple[str, str]:
    """Split a name into stem and suffix; `rows.csv.gz` has the suffix `.csv.gz`."""
    match = re.search(r"(\.[A-Za-z0-9]{1,10}){1,2}$", name)
    return (name[: match.start()], match.group()) if match and match.start() else (name, "")


def _make_no_room_error(name: str) -> DataError:
    return DataError(
        f"Not enough disk space for {name!r}.",
        fix="Free some space; no part of the file was saved.",
        field="upload",
    )


FILE_NAME_BYTES = 255  # no file system supports longer names


def find(folder: Path, name: str) -> Path:
    """Return the exported file with that name. Raises NotFoundError for a name that is not a file directly in
    the folder: one with a folder in it, a hidden file, a link.
    """
    path = folder / name
    short = 0 < len(os.fsencode(name)) <= FILE_NAME_BYTES
    plain = short and not name.startswith(".") and not set(name) & set("/\\\0")
    if not plain or path.is_symlink() or not path.is_file():
        raise NotFoundError(
            f"There is no exported file {name!r}.", fix="Export the data set again.", field="name"
        )
    return path
