"""Folders of registered model versions, and checks that their files are unchanged.

`registry/MODEL_ID/3` is the folder of version 3. It contains the model's files as a run leaves them, so that
anything that reads a model folder can read it. The id is derived from the name, so that a worker finds the
folder from NAME@3 alone. Next to it is `3.json`, its seal: its identity, and every file with size, time and
SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from store.core.documents import parse_optional_document
from store.core.errors import ModelError, NotFoundError
from store.core.home import Home
from store.core.job_folder import JobDir, read_json
from store.core.model_schemas import VersionFile, VersionSeal

CHUNK = 2**22  # bytes hashed at a time


def is_reference(name: str) -> bool:
    """Return whether a name refers to a registered version; names of folders and hub ids never do."""
    model, at, version = name.rpartition("@")
    return bool(model and at and version) and "/" not in name and "\\" not in name


def find_model_id(name: str) -> str:
    """Return the id of the registered model with that name."""
    return f"model-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


class VersionDir(JobDir):
    """Paths in the folder of a version: as in a run's, but the model is in the folder itself."""

    @property
    def config(self) -> Path:
        """How it was trained (`config`, a TrainConfig), and on which rows (`dataset`, `split`)."""
        return self.path / "training.json"

    @property
    def model(self) -> Path:
        return self.path

    @property
    def seal(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")


def find_version_folder(home: Home, reference: str) -> VersionDir:
    """Return the folder of NAME@NUMBER. Raises NotFoundError if there is none."""
    name, _, number = reference.rpartition("@")
    folder = VersionDir(home.registry / find_model_id(name) / number)
    if not number.isdecimal() or not folder.path.is_dir():
        raise NotFoundError(
            f"There is no folder of the registered model {reference}.",
            fix="`tunebench models` lists the models and their versions.",
            field="model",
        )
    return folder


def open_sealed_folder(home: Home, reference: str) -> VersionDir:
    """Return the folder of NAME@NUMBER after checking that its files are unchanged by size and time. Raises
    ModelError.
    """
    folder = find_version_folder(home, reference)
    check_sealed(folder.path, reference)
    return folder


def check_sealed(root: Path, reference: str = "") -> None:
    """Raise ModelError if the files of a version's folder differ from its seal by size and time. `reference`:
    the name used in errors; if empty, that of the seal.
    """
    folder = VersionDir(root)
    seal = parse_optional_document(VersionSeal, read_json(folder.seal))
    if seal is None:
        raise ModelError(
            f"The file list of {reference or root} is missing ({folder.seal}).",
            fix="Register the model again.",
            field="model",
        )
    check_files(root, seal["files"], reference or seal["reference"])


def compute_fingerprint(files: Sequence[VersionFile]) -> str:
    """Compute the SHA-256 over the paths and checksums of all files."""
    lines = [f"{file.path}\0{file.sha256}\n" for file in files]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def hash_file(path: Path, on_bytes: Callable[[int], None] = lambda count: None) -> str:
    """Compute the SHA-256 of a file; `on_bytes` is called with the size of each chunk."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
            on_bytes(len(piece))
    return digest.hexdigest()


def list_files_below(folder: Path) -> list[str]:
    """Return the relative paths of all files in a folder, sorted."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def check_files(folder: Path, files: Sequence[VersionFile], reference: str, *, whole: bool = False) -> None:
    """Raise ModelError that names the first missing, new or changed file.

    A file with its size and time at registration counts as unchanged, all others are hashed; with `whole`
    every file is hashed.
    """
    expected = {file.path: file for file in files}
    present = list_files_below(folder)
    for path in sorted(set(expected) - set(present)):
        raise _make_changed_error(reference, path, "is gone", folder)
    for path in sorted(set(present) - set(expected)):
        raise _make_changed_error(reference, path, "was not there when it was registered", folder)
    for path, file in expected.items():
        state = (folder / path).lstat()
        if state.st_size == file.bytes and state.st_mtime_ns == file.modified_ns and not whole:
            continue
        if state.st_size != file.bytes:
            sizes = f"has {state.st_size:,} bytes and had {file.bytes:,}"
            raise _make_changed_error(reference, path, sizes, folder)
        if hash_file(folder / path) != file.sha256:
            raise _make_changed_error(reference, path, "is not the one that was registered", folder)


def _make_changed_error(reference: str, path: str, what: str, folder: Path) -> ModelError:
    return ModelError(
        f"{reference} was changed after it was registered: its file {path} {what}.",
        fix=f"Put the file back into {folder}, or register the model again as a new version.",
        field="model",
    )
