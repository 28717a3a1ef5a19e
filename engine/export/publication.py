"""The finished folder of an export: its checksums, its place, a zip of it, and its way to the Hugging Face
hub.

Invariant: the job's folder names what it publishes before it does, so that the engine finds what belongs to
nobody.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from engine.worker.job import WorkerJob
from store.core.errors import DataError, StateError
from store.core.home import SPARE_BYTES
from store.core.job_folder import write_json
from store.core.model_schemas import VersionFile

# The finished folder of an export: its checksums, its place, and a zip of it.
#
# It gets its name by one rename once all is there; a name that is taken is never replaced. The job's folder
# says before that which names it is about to give (`published.json`), so that what a kill leaves between the
# rename and the end of the job is removed by the engine, as it belongs to nobody.

SUMS = "SHA256SUMS"
CHUNK = 2**20


class PublishedExport(NamedTuple):
    """folder: beneath the home folder's exports; zip: the file's name there."""

    folder: Path
    zip: str | None


def check_space(job: WorkerJob, needed: int) -> None:
    """Raise DataError with the size that is needed where the disk has less."""
    free = shutil.disk_usage(job.home.path).free
    if free < needed + SPARE_BYTES:
        raise DataError(
            f"The export needs about {_format_size(needed)} of disk space; {job.home.path} has "
            f"{_format_size(free)} free.",
            fix="Free up disk space, or choose a smaller form.",
        )


def _format_size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"


def write_checksums(folder: Path, tell: Callable[[str], None]) -> list[VersionFile]:
    """The files of the folder with their checksums, which are written into it for `sha256sum -c`."""
    tell("Computing checksums")
    files: list[VersionFile] = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SUMS):
        files.append(
            VersionFile(
                path=path.relative_to(folder).as_posix(),
                bytes=path.stat().st_size,
                sha256=compute_file_digest(path),
            )
        )
    lines = "".join(f"{file.sha256}  {file.path}\n" for file in files)
    (folder / SUMS).write_text(lines, encoding="utf-8")
    return files


def compute_file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(CHUNK):
            whole.update(part)
    return whole.hexdigest()


def write_zip(folder: Path, target: Path, name: str, tell: Callable[[str], None]) -> None:
    """The folder as one file; weights don't shrink, so nothing is compressed."""
    tell("Writing the zip file")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{name}/{path.relative_to(folder).as_posix()}")


def publish(job: WorkerJob, folder: Path, archive: Path | None, name: str) -> PublishedExport:
    """Give folder and zip file the first free name."""
    exports = job.home.exports
    exports.mkdir(exist_ok=True)
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    number, plain = 1, name
    while (exports / plain).exists() or (exports / f"{plain}.zip").exists():
        number += 1
        plain = f"{name}-{number}"
    write_json(job.dir.published, {"exports": [plain, f"{plain}.zip"] if archive else [plain]})
    os.rename(folder, exports / plain)  # refused where another export was first
    if archive:
        os.rename(archive, exports / f"{plain}.zip")
    return PublishedExport(exports / plain, f"{plain}.zip" if archive else None)


# A finished export pushed to a repository of the Hugging Face hub.
#
# The token is the one that the environment (HF_TOKEN) or `hf auth login` has; it is never asked for, stored
# or written anywhere by this project. All files become one commit: until it is made, the repository shows
# none.

RETRY_FIX = "The export is in the home folder. Push it with `hf upload {repository} FOLDER .`"
REFUSED: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "the token is invalid or has expired",
    HTTPStatus.FORBIDDEN: "the token has no write access",
    HTTPStatus.TOO_MANY_REQUESTS: "too many requests from this account",
}


def check_repository(repository: str, *, private: bool) -> None:
    """Before anything is made: raise StateError (hub) where nobody is signed in, the hub can't be reached, or
    what is to be private would become public."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import RepositoryNotFoundError

    if get_token() is None:
        raise StateError(
            f"Not signed in to the Hugging Face Hub: can't push to {repository}.",
            fix="Run `hf auth login`, or start the engine with HF_TOKEN set.",
            field="hub",
        )
    api = HfApi()
    try:
        api.whoami()
        there = api.repo_info(repository)
    except RepositoryNotFoundError:
        return  # it is made by the push
    except Exception as error:
        raise _build_hub_error(
            repository, error, "Nothing was exported. Check the network, the token and the repository name."
        ) from error
    _check_private(repository, private, there)


def _check_private(repository: str, private: bool, there: Any) -> None:
    if private and not there.private:
        raise StateError(
            f"{repository} already exists and is public, but the export is set to private.",
            fix="Use another name, or allow a public repository.",
            field="hub",
        )


def push_to_hub(folder: Path, repository: str, *, private: bool) -> str:
    """The address of the repository, with all files of the folder. Raises StateError with the reason, and
    what of it is there."""
    from huggingface_hub import HfApi

    api, made = HfApi(), False
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        made = True
        _check_private(repository, private, api.repo_info(repository))  # it may have been opened since
        api.upload_folder(
            repo_id=repository, folder_path=str(folder), commit_message="Model exported by Tunebench"
        )
    except StateError:
        raise
    except Exception as error:
        state = "The repository exists, without these files. " if made else ""
        raise _build_hub_error(repository, error, state + RETRY_FIX.format(repository=repository)) from error
    return str(address)


def _build_hub_error(repository: str, error: Exception, fix: str) -> StateError:
    """By its status where the hub answered; else by what the client says."""
    response: Any = getattr(error, "response", None)
    why = REFUSED.get(getattr(response, "status_code", 0), "")
    return StateError(
        f"Could not push to {repository}: {why or _remove_token(str(error)) or type(error).__name__}.",
        fix=fix,
        field="hub",
    )


def _remove_token(text: str) -> str:
    from huggingface_hub import get_token

    plain = " ".join(text.split())
    token = get_token()
    return (plain.replace(token, "…") if token else plain)[:300].rstrip(".")
