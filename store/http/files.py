"""Files that come in as uploads and go out as exports: into their folder and nowhere else, and none from
outside it."""

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

# Files that come through the browser or the command line, into the uploads folder and nowhere else.
#
# Invariant: a file under its final name is whole; it never replaces another; whatever goes wrong, nothing
# is left of it, and where the engine was killed nothing from the next start on. A file is never in memory,
# and leaves `SPARE_BYTES` of the disk free.

UPLOAD_NAME_BYTES = 200  # leaves room for a suffix within the 255 of a file name
BLOCK_BYTES = 4 * 1024 * 1024  # written at a time
FILE_BYTES = 2 * 2**30  # `maxUploadSize` of the screens, which hold a file in memory until it is sent here
_ASIDE = ".upload-"


def sanitise_file_name(name: str) -> str:
    """The name as a plain file name: no folders, no leading dot, no control characters, not too long.

    Raises ConfigError (field upload) where nothing is left of it.
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
    return _truncate_name(stem, UPLOAD_NAME_BYTES - len(suffix.encode())) + suffix


async def save(folder: Path, name: str, request: Request) -> str:
    """Write the body of a request into `folder`; the name under which it is kept (` (2)` is added where one
    is taken).

    Raises TooLargeError for more than `FILE_BYTES`, DataError where the disk can't take it, and
    ClientDisconnect where the client is gone.
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
        raise _make_refusal(name, error) from error
    finally:
        aside.unlink(missing_ok=True)


def remove_stale(folder: Path) -> None:
    """At the start: what uploads left that an engine before this one did not live to finish."""
    for left in folder.glob(f"{_ASIDE}*"):
        left.unlink(missing_ok=True)


def _check_room(folder: Path, name: str, size: int, written: int) -> None:
    """Raise where a file of `size` bytes, `written` of them on the disk already, is more than may be kept."""
    if size > FILE_BYTES:
        raise TooLargeError(
            f"{name!r} is larger than {FILE_BYTES / 2**30:g} GiB, the limit of an upload.",
            fix="Put it on the machine of the engine and give its path.",
            field="upload",
        )
    if size - written > shutil.disk_usage(folder).free - SPARE_BYTES:
        raise _make_no_room_error(name)


def _flush(descriptor: int, flush: object) -> None:
    flush()  # type: ignore[operator]
    os.fsync(descriptor)


def _publish(aside: Path, folder: Path, name: str) -> str:
    """Give the file its name. A link never replaces a file that is there, so two uploads can't collide."""
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
    """Stem and suffix; `rows.csv.gz` has the suffix `.csv.gz`."""
    match = re.search(r"(\.[A-Za-z0-9]{1,10}){1,2}$", name)
    return (name[: match.start()], match.group()) if match and match.start() else (name, "")


def _truncate_name(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")


def _make_refusal(name: str, error: OSError) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return _make_no_room_error(name)
    return DataError(f"{name!r} could not be written ({error.strerror}). Nothing of the file was kept.")


def _make_no_room_error(name: str) -> DataError:
    return DataError(
        f"There is no room on the disk for {name!r}.",
        fix="Free some space; nothing of the file was kept.",
        field="upload",
    )


FILE_NAME_BYTES = 255  # more, and no file system has such a name


def find(folder: Path, name: str) -> Path:
    """The exported file of that name. Raises NotFoundError for a name that is none of the folder's files:
    one with a folder in it, a hidden one, a link."""
    path = folder / name
    short = 0 < len(os.fsencode(name)) <= FILE_NAME_BYTES
    plain = short and not name.startswith(".") and not set(name) & set("/\\\0")
    if not plain or path.is_symlink() or not path.is_file():
        raise NotFoundError(
            f"There is no exported file {name!r}.", fix="Export the data set again.", field="name"
        )
    return path
