"""Publication of a finished export: checksums, folder, zip file, and push to the Hugging Face hub.

Invariant: the job's folder records the names before they are taken, so that the engine can remove leftovers.
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

# The folder is published by one rename once it is complete; an existing name is never replaced. The names are
# recorded in the job's folder first (`published.json`), so that if the job is killed between the rename and
# its end, the engine removes the files, as no export owns them.

SUMS = "SHA256SUMS"
CHUNK = 2**20


class PublishedExport(NamedTuple):
    """Names of a published export; folder: within the home folder's exports; zip: the file's name there."""

    folder: Path
    zip: str | None


def check_space(job: WorkerJob, needed: int) -> None:
    """Raise DataError with the required size if the disk has less free."""
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
    """Return the folder's files with checksums, and write these in the format of `sha256sum -c`."""
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
    """Return the SHA-256 of a file."""
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(CHUNK):
            whole.update(part)
    return whole.hexdigest()


def write_zip(folder: Path, target: Path, name: str, tell: Callable[[str], None]) -> None:
    """Write the folder as one uncompressed zip file, as weights hardly compress."""
    tell("Writing the zip file")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{name}/{path.relative_to(folder).as_posix()}")


def publish(job: WorkerJob, folder: Path, archive: Path | None, name: str) -> PublishedExport:
    """Rename folder and zip file to the first free name."""
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
    os.rename(folder, exports / plain)  # fails if another export took the name first
    if archive:
        os.rename(archive, exports / f"{plain}.zip")
    return PublishedExport(exports / plain, f"{plain}.zip" if archive else None)


# The token is that of the environment (HF_TOKEN) or of `hf auth login`; this project never asks for it,
# stores it or writes it. All files are pushed as one commit: until it exists, the repository shows none.

RETRY_FIX = "The export is in the home folder. Push it with `hf upload {repository} FOLDER .`"
REFUSED: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "the token is invalid or has expired",
    HTTPStatus.FORBIDDEN: "the token has no write access",
    HTTPStatus.TOO_MANY_REQUESTS: "too many requests from this account",
}


def check_repository(repository: str, *, private: bool) -> None:
    """Check the repository before any work.

    Raises: StateError (hub) if not signed in, if the hub can't be reached, or if a private export would
    become public.
    """
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
        return  # created by the push
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
    """Push all files of the folder and return the repository's address.

    Raises: StateError with the reason, and whether the repository was created.
    """
    from huggingface_hub import HfApi

    api, made = HfApi(), False
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        made = True
        _check_private(repository, private, api.repo_info(repository))  # it may have become public since
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
    """Return the error, by status code if the hub responded, otherwise with the client's message."""
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
