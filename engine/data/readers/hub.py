"""A data set of the Hugging Face hub, streamed. No code that comes with a data set is run."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from engine.data.readers.raw_rows import Reader, ReadRow
from store.contract.errors import DataError

IN_HUB = "hf://"
SECONDS = 10  # until the hub must have answered the first question


class HubReader(Reader):
    """Rows of one split; the line is the row's number. Raises DataError where the hub can't be reached,
    or has no such data set, config or split."""

    name = "parquet"
    unit = "rows"

    def __init__(self, hub_id: str, config: str | None, split: str) -> None:
        super().__init__()
        self._title = f"{hub_id} ({', '.join(filter(None, (config, split)))})"
        _ask_hub(hub_id)
        import datasets  # only where a hub id is given: it takes a second

        try:
            builder: Any = datasets.load_dataset_builder(hub_id, config)
            _check_files(hub_id, builder.config.data_files or {})
            self._set: Any = builder.as_streaming_dataset(split=split)
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


def _check_files(hub_id: str, files: Mapping[str, Iterable[object]]) -> None:
    """Raise DataError where the description of a set names files that are not the hub's: `datasets` would
    read those of this machine, or of an address that only it can reach."""
    for file in itertools.chain.from_iterable(files.values()):
        if not str(file).startswith(IN_HUB):
            raise DataError(
                f"The data set {hub_id} names a file outside of the hub: {str(file)[:200]}.",
                fix="Import a data set whose files lie in its own repository.",
                field="source",
            )


def hub_splits(hub_id: str, config: str | None) -> list[str]:
    """The splits of a set. Raises DataError where the hub can't be reached or has none."""
    _ask_hub(hub_id)
    import datasets

    try:
        return list(datasets.get_dataset_split_names(hub_id, config))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"The hub did not say which splits {hub_id} has: {' '.join(str(error).split())[:200]}",
            fix="Name one of them, such as train.",
            field="source",
        ) from error


def _ask_hub(hub_id: str) -> None:
    """Fail at once where there is no network: `datasets` alone would try for half a minute."""
    from huggingface_hub import HfApi, errors

    try:
        HfApi().dataset_info(hub_id, timeout=SECONDS)
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
