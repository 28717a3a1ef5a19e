"""What an agent may not ask for, though the person whose token it has may.

Text that an agent reads can persuade it. So it names no path outside the folders that whoever started the
server gave it, sends nothing to other machines but questions for public models and data sets, and opens no
port to them: those a person does, on the screens or on the command line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from store.contract.document import Config
from store.contract.errors import ForbiddenError
from store.contract.named_sources import NamedSource, may_be_path, named_in
from store.http.access import is_loopback

ADDRESSES = ("https://", "http://")
SECRETS = ("key_env", "key_file")  # fields that name a secret of this machine
ALLOWED = "Start the server with `tunebench mcp --files FOLDER` to let agents use what lies in it."
BY_PERSON = "A person can do it, on the screens or on the command line."


def check_asked(asked: Config, folders: Sequence[Path]) -> None:
    """Raise ForbiddenError, with the field, for what an agent may not ask for. folders: whose files it may
    name, with their links resolved."""
    for each in named_in(asked):
        if each.value and not _may_name(each, folders):
            raise _refused(each)
    for field, value in _fields(asked.model_dump(), ""):
        if value and (what := _leaves(field.rpartition(".")[2], value)):
            named = f": {value[:200]}" if isinstance(value, str) else ""
            raise ForbiddenError(f"{field} {what}{named}.", fix=BY_PERSON, field=field)


def _leaves(name: str, value: Any) -> str:
    """What the value of a field of that name would do beyond this machine; empty for nothing."""
    if name in SECRETS:
        return "sends a secret of this machine to another"
    if name == "hub":
        return "publishes a model"
    if name == "base_url" and not is_loopback(urlsplit(str(value)).hostname or ""):
        return "sends rows to another machine"
    if name == "allow_host" or (name == "host" and not is_loopback(str(value))):
        return "opens a port to other machines"
    return ""


def _may_name(named: NamedSource, folders: Sequence[Path]) -> bool:
    if named.kind == "subject" and named.value.startswith(ADDRESSES):
        return False
    is_path = named.kind in ("file", "folder") or may_be_path(named.value, of_run=named.kind == "subject")
    return not is_path or _lies_in(named.value, folders)


def _lies_in(path: str, folders: Sequence[Path]) -> bool:
    """By where it really is: a link out of the folder leads out of it."""
    if "\0" in path or not os.path.isabs(path):
        return False
    return any(Path(os.path.realpath(path)).is_relative_to(folder) for folder in folders)


def _refused(named: NamedSource) -> ForbiddenError:
    if named.value.startswith(ADDRESSES):
        return ForbiddenError(
            f"{named.field} names another machine: {named.value[:200]}.", fix=BY_PERSON, field=named.field
        )
    if not os.path.isabs(named.value):
        return ForbiddenError(
            f"{named.field} is no whole path: {named.value[:200]}.",
            fix="Give it from the root on, within a folder that agents may use.",
            field=named.field,
        )
    return ForbiddenError(
        f"{named.field} lies in no folder that agents may use: {named.value[:200]}.",
        fix=ALLOWED,
        field=named.field,
    )


def _fields(document: Any, at: str) -> Iterator[tuple[str, Any]]:
    """Every field of a document with its value, however deep."""
    if isinstance(document, Mapping):
        for name, value in document.items():
            yield f"{at}.{name}".lstrip("."), value
            yield from _fields(value, f"{at}.{name}".lstrip("."))
    elif isinstance(document, list | tuple):
        for place, value in enumerate(document):
            yield from _fields(value, f"{at}.{place}")
