"""Data sets by name: Hugging Face hub data sets, streamed, and the built-in one from Python's documentation.

No code of a data set is run. The hub is the one of the environment (`HF_ENDPOINT`), which the operator
trusts. A data set may be anybody's, and its card names its files: `datasets` would accept a local file of
this machine or any address. So a card that names files outside its repository is rejected, at the commit
that is read. Nothing that a row refers to is downloaded: images and audio stay encoded.
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

HUB_PREFIX = "hf://"
HUB_SECONDS = 10  # timeout of the first request to the hub


class HubReader(Reader):
    """Reader of one split of a hub data set; the line is the row's number.

    Raises DataError if the hub can't be reached, or has no such data set, config or split.
    """

    name = "parquet"
    unit = "rows"

    def __init__(self, hub_id: str, config: str | None, split: str) -> None:
        super().__init__()
        self._title = f"{hub_id} ({', '.join(filter(None, (config, split)))})"
        commit = _resolve_commit(hub_id)
        import datasets  # imported lazily: takes a second

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
    """Return the splits of a data set. Raises DataError if the hub can't be reached or lists none."""
    commit = _resolve_commit(hub_id)
    import datasets

    try:
        return list(datasets.get_dataset_split_names(hub_id, config, revision=commit))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"The splits of {hub_id} could not be read from the hub: {' '.join(str(error).split())[:200]}",
            fix="Name one of them, such as train.",
            field="source",
        ) from error


def _resolve_commit(hub_id: str) -> str:
    """Return the commit to read, after checking that its card only names files of its own.

    Raises DataError.
    """
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
    """Raise DataError if resolved files are not on the hub.

    `datasets` also accepts a local folder with the name of the data set.
    """
    for file in itertools.chain.from_iterable(files.values()):
        if not str(file).startswith(HUB_PREFIX):
            raise DataError(
                f"The data set {hub_id} names a file outside of the hub: {str(file)[:200]}.",
                fix="Import a data set whose files are in its own repository.",
                field="source",
            )


def _iterate_file_names(part: Any, within: bool = False) -> Iterator[str]:
    """Yield every text below a `data_files` or `data_dir` key of a card, at any depth."""
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
    """Return whether a path or pattern stays inside its repository."""
    parts = named.replace("\\", "/").split("/")
    return not (":" in named or named.startswith(("/", "\\", "~")) or ".." in parts)


def _fetch_hub_info(hub_id: str) -> Any:
    """Fetch the hub's metadata of a data set.

    Fails at once without a network; `datasets` alone would retry for half a minute.
    """
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
LABEL = "module"  # column stored as the label of each row


class BuiltinReader(Reader):
    """Reader of rows `{"prompt", "completion", "module"}`; the line is the row's number in order of names."""

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
    """Return the rows as JSON from an isolated process, because importing the whole library has side effects.

    The process has no display, no input, and none of the user's start-up files (-I -S).
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
