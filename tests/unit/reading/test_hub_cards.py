"""A data set of the hub names files of its own alone; what it is read at is the commit that was looked at."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import pytest

from engine.data.readers.named_datasets import HubReader, list_hub_splits
from store.core.errors import DataError

COMMIT = "c0ffee"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Files of one repository, by name, of which `datasets` reads a row."""
    files: dict[str, str] = {}

    def info(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(sha=COMMIT, siblings=[SimpleNamespace(rfilename=name) for name in files])

    def download(hub_id: str, name: str, *, repo_type: str, revision: str) -> str:
        assert (repo_type, revision) == ("dataset", COMMIT)
        path = tmp_path / name
        path.write_text(files[name])
        return str(path)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return files


def card(where: str) -> str:
    return f"---\nconfigs:\n- config_name: default\n{where}\n---\nWords: https://example.org/\n"


@pytest.mark.parametrize(
    "where",
    [
        "  data_files: https://169.254.169.254/latest/meta-data",
        "  data_files: /home/somebody/.tunebench/token",
        "  data_files: [data/a.csv, ~/secret.csv]",
        "  data_files:\n  - split: train\n    path: [a.csv, 'file:///etc/passwd']",
        "  data_files: 'zip://*.csv::http://10.0.0.1/a.zip'",
        "  data_files: ../other/a.csv",
        "  data_dir: /etc",
        "  data_dir: 'C:\\\\secrets'",
    ],
)
@pytest.mark.parametrize("name", ["README.md", ".huggingface.yaml"])
def test_files_beyond_the_repository_are_refused(
    hub: dict[str, str], monkeypatch: pytest.MonkeyPatch, where: str, name: str
) -> None:
    for function in ("load_dataset_builder", "get_dataset_split_names"):
        monkeypatch.setattr(datasets, function, lambda *_, **__: pytest.fail("asked for"))
    hub[name] = card(where) if name == "README.md" else card(where).split("---")[1]
    for read in (lambda: HubReader("a/b", None, "train"), lambda: list_hub_splits("a/b", None)):
        with pytest.raises(DataError, match="not its own") as refused:
            read()
        assert refused.value.field == "source"


def test_the_commit_that_was_looked_at_is_read_and_no_picture_fetched(
    hub: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub["README.md"] = card("  data_files:\n  - split: train\n    path: data/*.parquet")
    features = datasets.Features({"text": datasets.Value("string"), "picture": datasets.Image()})
    outside = "http://127.0.0.1:9/secret.png"

    def rows() -> Any:
        yield {"text": "a", "picture": {"bytes": None, "path": outside}}

    def build(hub_id: str, config: Any, *, revision: str) -> Any:
        assert revision == COMMIT
        opened = datasets.IterableDataset.from_generator(rows, features=features)
        files = {"train": [f"hf://datasets/a/b@{COMMIT}/data/a.parquet"]}
        return SimpleNamespace(
            config=SimpleNamespace(data_files=files), as_streaming_dataset=lambda split: opened
        )

    monkeypatch.setattr(datasets, "load_dataset_builder", build)
    [(number, row)] = HubReader("a/b", None, "train").rows()
    assert (number, row) == (1, {"text": "a", "picture": {"bytes": None, "path": outside}})
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda hub_id, config, revision: [revision])
    assert list_hub_splits("a/b", None) == [COMMIT]
