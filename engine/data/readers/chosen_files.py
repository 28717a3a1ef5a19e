"""Which of several files hold rows: those of a folder, and those that somebody named together.

What is about the data (README.md, LICENSE, dataset_info.json) holds no rows, is not read, and that is said.
Names of labels, texts beside tables, and files of another kind may be rows, or say what the rows mean: there
the import stops until somebody says which files are meant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from engine.data.readers.raw_rows import SourceProblem
from engine.data.readers.recognise import by_extension
from engine.data.readers.source import unreadable
from store.contract.errors import DataError

MAX_FILES = 200
MAX_NAMED = 8
ABOUT = frozenset(
    (
        "authors", "changelog", "changes", "citation", "code_of_conduct", "contributing", "copying",
        "copyright", "croissant", "datacard", "datasheet", "dataset_card", "dataset_dict", "dataset_info",
        "dataset_infos", "licence", "license", "manifest", "metadata", "notice", "package", "readme",
        "requirements", "schema", "sha256sums", "checksums", "state",
    )
)  # fmt: skip
LABEL_NAMES = re.compile(
    r"(.*_)?(label|labels|classes|class_names|class_labels|label_names|label_list|label_map|labels_map|label2id"
    r"|id2label|categories|intents|tags|tagset)"
)
READ_APART = ("text", "json")  # kinds of files that are lists of names as often as rows


class ChosenFiles(NamedTuple):
    """files: those with rows. problems: what is said of the others."""

    files: list[Path]
    problems: list[SourceProblem]


def choose_files(folder: Path, ignore: Sequence[str]) -> ChosenFiles:
    """The files of a folder that hold rows. ignore: names that somebody said hold none. Raises DataError
    where it is not plain which do, for none, and for more than 200."""
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise unreadable(folder, error) from error
    files = [path for path in entries if path.is_file()]
    _check_names(files, ignore)
    chosen = _kept([path for path in files if by_extension(path.name)], ignore)
    if not chosen.files:
        raise DataError(
            f"{folder} has no file of data in it.",
            fix="Name a file, or a folder with CSV, TSV, JSON, JSONL, Parquet or text files.",
            field="source",
        )
    if len(chosen.files) > MAX_FILES:
        raise DataError(
            f"{folder} has {len(chosen.files):,} files of data; at most {MAX_FILES} are read together.",
            fix="Join them first.",
            field="source",
        )
    _check_kinds(folder, chosen.files)
    other = [path.name + ("/" if path.is_dir() else "") for path in entries if not path.is_file()]
    other += [path.name for path in files if not by_extension(path.name)]
    if other:
        reason = f"Not read, as no kind of file with rows: {_listed(other)}."
        chosen.problems.append(SourceProblem(None, reason, True))
    return chosen


def keep_rows(paths: Sequence[Path], ignore: Sequence[str]) -> ChosenFiles:
    """Those of several files that hold rows. Raises DataError where one may be something else, and for a
    name in `ignore` that none has."""
    _check_names(paths, ignore)
    return _kept(paths, ignore)


def _kept(paths: Sequence[Path], ignore: Sequence[str]) -> ChosenFiles:
    rest = [path for path in paths if path.name not in ignore]
    tables = [path for path in rest if not _is_about(path) and by_extension(path.name) != "text"]
    about = [path for path in rest if len(rest) > 1 and _is_about(path, beside=bool(tables))]
    rows = [path for path in rest if path not in about]
    if not rows:
        about, rows = [], rest
    unclear = [path for path in rows if len(rows) > 1 and _may_name_labels(path, bool(tables))]
    if unclear:
        names = [path.name for path in unclear]
        others = _listed([path.name for path in rows if path not in unclear]) or "each other"
        raise DataError(
            f"{_listed(names)} beside {others} may say what labels mean, or hold other texts than the rows:"
            " such a file is not read as rows.",
            fix="Import the files with rows by name, or leave these out on purpose: "
            + " ".join(f"--ignore-file {name}" for name in names),
            field="ignore_files",
        )
    notices: list[SourceProblem] = []
    if about:
        named = _listed([path.name for path in about])
        notices.append(SourceProblem(None, f"Not read, as about the data and no rows: {named}.", True))
    if ignore:
        notices.append(SourceProblem(None, f"Files left out on purpose: {_listed(list(ignore))}.", True))
    return ChosenFiles(rows, notices)


def _is_about(path: Path, *, beside: bool = True) -> bool:
    """Whether a file is about data by its name: a text or a JSON called so, Markdown beside tables."""
    kind, stem = by_extension(path.name), _stem(path)
    if path.suffix.lower() == ".md" and beside:
        return True
    return kind in (None, *READ_APART) and stem in ABOUT


def _may_name_labels(path: Path, beside: bool) -> bool:
    if by_extension(path.name) == "text" and beside:
        return True
    return bool(LABEL_NAMES.fullmatch(_stem(path)))


def _check_kinds(folder: Path, files: Sequence[Path]) -> None:
    kinds: dict[str, list[str]] = {}
    for path in files:
        kinds.setdefault(str(by_extension(path.name)), []).append(path.name)
    if len(kinds) > 1:
        named = "; ".join(f"{kind}: {_listed(names)}" for kind, names in kinds.items())
        fewest = min(kinds.values(), key=len)
        raise DataError(
            f"{folder} has files of several kinds ({named}), and which of them are the rows can't be told.",
            fix="Import files by name, or leave some out on purpose: "
            + " ".join(f"--ignore-file {name}" for name in fewest[:MAX_NAMED]),
            field="ignore_files",
        )


def _check_names(paths: Sequence[Path], ignore: Sequence[str]) -> None:
    names = {path.name for path in paths}
    if missing := [name for name in ignore if name not in names]:
        raise DataError(
            f"There is no file {missing[0]!r} to leave out.",
            fix=f"There is {_listed(sorted(names))}.",
            field="ignore_files",
        )
    if ignore and names <= set(ignore):
        raise DataError("Every file is to be left out.", fix="Keep one with rows.", field="ignore_files")


def _stem(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return re.sub(r"[\s\-.]+", "_", Path(name).stem)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
