"""Data sets that are named instead of uploaded: one of the Hugging Face hub, streamed, and the built-in
one that this machine's Python documentation gives. No code that comes with a data set is run, and no file
or address that its card names outside of the hub is read.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.data.readers import python_docs
from engine.data.readers.file_rows import Reader, ReadRow, SourceProblem, make_skipped_row
from store.core.errors import DataError

# A data set of the Hugging Face hub, streamed. No code that comes with a data set is run.
#
# The hub is the one of the environment (`HF_ENDPOINT`), which is its owner's to trust. A data set is
# anybody's, and its card says where its files are: `datasets` would take a file of this machine, or any
# address, for one. So a card that names files beyond its repository is refused, at the commit that is read.
# Nor is anything fetched that a row names: pictures and sounds stay as they are stored.

HUB_PREFIX = "hf://"
HUB_SECONDS = 10  # until the hub must have answered the first question


class HubReader(Reader):
    """Rows of one split; the line is the row's number. Raises DataError where the hub can't be reached,
    or has no such data set, config or split."""

    name = "parquet"
    unit = "rows"

    def __init__(self, hub_id: str, config: str | None, split: str) -> None:
        super().__init__()
        self._title = f"{hub_id} ({', '.join(filter(None, (config, split)))})"
        commit = _resolve_commit(hub_id)
        import datasets  # only where a hub id is given: it takes a second

        try:
            builder: Any = datasets.load_dataset_builder(hub_id, config, revision=commit)
            _check_resolved(hub_id, builder.config.data_files or {})
            opened: Any = builder.as_streaming_dataset(split=split)
            if opened.features and datasets.features.features.require_decoding(opened.features):
                opened = opened.decode(False)
            self._set = opened
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            raise self._refused(error) from error
        described = self._set.info
        counted = (described.splits or {}).get(split)
        self.total = float(getattr(counted, "num_examples", 0) or 0)
        self.bytes = int(getattr(counted, "num_bytes", 0) or 0)
        self.columns = list(described.features or ())
        self._done = 0

    def rows(self) -> Iterator[ReadRow]:
        from datasets.exceptions import DatasetsError

        try:
            for number, row in enumerate(self._set, 1):
                self._done = number
                yield number, row
        except (OSError, ValueError, DatasetsError) as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> DataError:
        reason = " ".join(str(error).split())[:200]
        return DataError(
            f"The hub did not give {self._title}: {reason}",
            fix="Check id, config and split; a gated set needs a token (`hf auth login`).",
            field="source",
        )

    def position(self) -> float:
        return self._done


def list_hub_splits(hub_id: str, config: str | None) -> list[str]:
    """The splits of a set. Raises DataError where the hub can't be reached or has none."""
    commit = _resolve_commit(hub_id)
    import datasets

    try:
        return list(datasets.get_dataset_split_names(hub_id, config, revision=commit))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"The hub did not say which splits {hub_id} has: {' '.join(str(error).split())[:200]}",
            fix="Name one of them, such as train.",
            field="source",
        ) from error


def _resolve_commit(hub_id: str) -> str:
    """The commit to be read, whose card names files of its own alone. Raises DataError."""
    import yaml
    from datasets.config import REPOCARD_FILENAME, REPOYAML_FILENAME
    from huggingface_hub import DatasetCard, hf_hub_download

    repository = _fetch_hub_info(hub_id)
    commit = str(repository.sha)
    present = {file.rfilename for file in repository.siblings or ()}
    cards: list[Any] = []
    try:
        if REPOCARD_FILENAME in present:
            path = hf_hub_download(hub_id, REPOCARD_FILENAME, repo_type="dataset", revision=commit)
            cards.append(DatasetCard.load(path, ignore_metadata_errors=True).data.to_dict())
        if REPOYAML_FILENAME in present:
            path = hf_hub_download(hub_id, REPOYAML_FILENAME, repo_type="dataset", revision=commit)
            cards.append(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(
            f"The card of {hub_id} can't be read: {' '.join(str(error).split())[:200]}", field="source"
        ) from error
    for named in _iterate_file_names(cards):
        if not _is_inside(named):
            raise DataError(
                f"The card of {hub_id} names a file that is not its own: {named[:200]}",
                fix="Download the rows elsewhere and import the file by its path.",
                field="source",
            )
    return commit


def _check_resolved(hub_id: str, files: Mapping[str, Iterable[object]]) -> None:
    """Raise DataError where files were found that are not the hub's: `datasets` also takes a folder of this
    machine that is called as the set is."""
    for file in itertools.chain.from_iterable(files.values()):
        if not str(file).startswith(HUB_PREFIX):
            raise DataError(
                f"The data set {hub_id} names a file outside of the hub: {str(file)[:200]}.",
                fix="Import a data set whose files lie in its own repository.",
                field="source",
            )


def _iterate_file_names(part: Any, within: bool = False) -> Iterator[str]:
    """Every text under a `data_files` or a `data_dir` of a card, however deep."""
    if isinstance(part, str):
        if within:
            yield part
    elif isinstance(part, dict):
        for name, entry in part.items():
            yield from _iterate_file_names(entry, within or name in ("data_files", "data_dir"))
    elif isinstance(part, list):
        for entry in part:
            yield from _iterate_file_names(entry, within)


def _is_inside(named: str) -> bool:
    """Whether a path or a pattern stays in its repository."""
    parts = named.replace("\\", "/").split("/")
    return not (":" in named or named.startswith(("/", "\\", "~")) or ".." in parts)


def _fetch_hub_info(hub_id: str) -> Any:
    """What the hub knows of a set. Fails at once where there is no network: `datasets` alone would try for
    half a minute."""
    from huggingface_hub import HfApi, errors

    try:
        return HfApi().dataset_info(hub_id, timeout=HUB_SECONDS)
    except errors.GatedRepoError as error:
        raise DataError(
            f"The data set {hub_id} is gated.",
            fix="Accept its terms on the hub and sign in with `hf auth login`.",
            field="source",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise DataError(
            f"The hub has no data set {hub_id}, or it is private.", fix="Check the id.", field="source"
        ) from error
    except errors.HFValidationError as error:
        raise DataError(
            f"{hub_id!r} is not an id of the hub.", fix="Write it as owner/name.", field="source"
        ) from error
    except (errors.HTTPError, OSError) as error:
        raise DataError(
            f"The Hugging Face hub can't be reached for {hub_id} ({' '.join(str(error).split())[:120]}).",
            fix="Connect this machine to the network, or download the file elsewhere and import it by path.",
            field="source",
        ) from error


PYTHON_SECONDS = 120
LABEL = "module"  # the column that is kept as the label of each row


class BuiltinReader(Reader):
    """Rows `{"prompt", "completion", "module"}`; the line is the row's number in the order of the names."""

    name = "json"
    unit = "rows"

    def __init__(self) -> None:
        super().__init__()
        self.columns = ["prompt", "completion", "module"]
        output = _fetch_python_docs()
        self.bytes = len(output)
        self._rows: list[dict[str, str]] = json.loads(output)
        self.total = len(self._rows)
        self._done = 0
        version = ".".join(map(str, sys.version_info[:3]))
        self.problems.append(
            SourceProblem(None, f"Made from the documentation inside Python {version}.", True)
        )

    def rows(self) -> Iterator[ReadRow]:
        for number, row in enumerate(self._rows, 1):
            self._done = number
            reason = row.get("reason")
            yield (
                number,
                make_skipped_row(reason, f"{row['prompt']} {row['completion']}") if reason else dict(row),
            )

    def position(self) -> float:
        return self._done


def _fetch_python_docs() -> bytes:
    """The rows as JSON, from an isolated process: importing all of the library may do anything to it.

    It sees no display, no input, and none of the user's start-up files (-I -S).
    """
    script = Path(python_docs.__file__)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-X", "utf8", str(script)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin", "TERM": "dumb"},
            timeout=PYTHON_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise DataError(
            f"{sys.executable} could not list its own documentation ({type(error).__name__}).",
            fix="Check that this Python runs by itself.",
            field="source",
        ) from error
    return done.stdout
