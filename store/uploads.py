"""Files that come through the browser or the command line, into the uploads folder and nowhere else.

Invariant: a file under its final name is whole; it never replaces another; whatever goes wrong, nothing
is left of it.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread

from store.errors import ConfigError, DataError

NAME_BYTES = 200  # leaves room for a suffix within the 255 of a file name
BLOCK_BYTES = 4 * 1024 * 1024  # written at a time


def plain_name(name: str) -> str:
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
    stem, suffix = _parts(clean)
    return _cut(stem, NAME_BYTES - len(suffix.encode())) + suffix


async def save(folder: Path, name: str, body: AsyncIterator[bytes]) -> str:
    """Write `body` into `folder`; the name under which it is kept (` (2)` is added where one is taken).

    Raises DataError where the disk can't take it.
    """
    name = plain_name(name)
    aside = folder / f".upload-{secrets.token_hex(8)}"
    try:
        with open(aside, "xb", buffering=BLOCK_BYTES) as file:
            async for chunk in body:
                await anyio.to_thread.run_sync(file.write, chunk)
            await anyio.to_thread.run_sync(_flush, file.fileno(), file.flush)
        return _publish(aside, folder, name)
    except OSError as error:
        aside.unlink(missing_ok=True)
        async for _ in body:  # let the client finish, or it never reads the answer
            pass
        raise _refused(name, error) from error
    finally:
        aside.unlink(missing_ok=True)


def _flush(descriptor: int, flush: object) -> None:
    flush()  # type: ignore[operator]
    os.fsync(descriptor)


def _publish(aside: Path, folder: Path, name: str) -> str:
    """Give the file its name. A link never replaces a file that is there, so two uploads can't collide."""
    stem, suffix = _parts(name)
    number, chosen = 1, name
    while True:
        try:
            os.link(aside, folder / chosen)
            return chosen
        except FileExistsError:
            number += 1
            chosen = f"{stem} ({number}){suffix}"


def _parts(name: str) -> tuple[str, str]:
    """Stem and suffix; `rows.csv.gz` has the suffix `.csv.gz`."""
    match = re.search(r"(\.[A-Za-z0-9]{1,10}){1,2}$", name)
    return (name[: match.start()], match.group()) if match and match.start() else (name, "")


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")


def _refused(name: str, error: OSError) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DataError(
            f"There is no room on the disk for {name!r}.",
            fix="Free some space; nothing of the file was kept.",
        )
    return DataError(f"{name!r} could not be written ({error.strerror}). Nothing of the file was kept.")
