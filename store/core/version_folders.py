"""Where the files of a registered version lie, and whether they are still those that were registered.

`registry/MODEL_ID/3` is the folder of version 3; its model's files lie in it as a run leaves them, so that
whoever reads a model's folder reads it. The id follows from the name, so that a worker finds the folder by
NAME@3 alone. Beside it lies `3.json`, its seal: who it is, and every file with size, time and SHA-256.
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

CHUNK = 2**22  # bytes that are hashed at a time


def is_reference(name: str) -> bool:
    """Whether a model's name is one of a registered version; neither a folder nor a hub id has such."""
    model, at, version = name.rpartition("@")
    return bool(model and at and version) and "/" not in name and "\\" not in name


def find_model_id(name: str) -> str:
    """The id of the registered model of that name."""
    return f"model-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


class VersionDir(JobDir):
    """Paths in the folder of a version: as of a run's, but that the model lies in the folder itself."""

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
    """The folder of NAME@NUMBER. Raises NotFoundError where there is none."""
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
    """The folder of NAME@NUMBER, whose files are unchanged by size and time. Raises ModelError."""
    folder = find_version_folder(home, reference)
    check_sealed(folder.path, reference)
    return folder


def check_sealed(root: Path, reference: str = "") -> None:
    """Raise ModelError where the files of a version's folder are not those of its seal, by size and time.
    `reference`: how errors call it; empty, as its seal does."""
    folder = VersionDir(root)
    seal = parse_optional_document(VersionSeal, read_json(folder.seal))
    if seal is None:
        raise ModelError(
            f"The list of the files of {reference or root} is gone ({folder.seal}).",
            fix="Register the model again.",
            field="model",
        )
    check_files(root, seal["files"], reference or seal["reference"])


def compute_fingerprint(files: Sequence[VersionFile]) -> str:
    """SHA-256 over the paths and checksums of all files."""
    lines = [f"{file.path}\0{file.sha256}\n" for file in files]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def hash_file(path: Path, on_bytes: Callable[[int], None] = lambda count: None) -> str:
    """The SHA-256 of a file; `on_bytes` is told of each piece."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
            on_bytes(len(piece))
    return digest.hexdigest()


def list_files_below(folder: Path) -> list[str]:
    """Paths of all files of a folder, sorted, beneath it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def check_files(folder: Path, files: Sequence[VersionFile], reference: str, *, whole: bool = False) -> None:
    """Raise ModelError that names the first file that is gone, new or another one.

    A file with the size and time of when it was registered is taken for unchanged, all others are hashed;
    with `whole` every file is.
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
