"""A data set of the hub has the rows of its own repository, and never those of this machine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest

from engine.data.readers import named_datasets
from store.core.errors import DataError

README = "---\nconfigs:\n- config_name: default\n  data_files: {path}\n---\n"


@pytest.fixture(autouse=True)
def _known_to_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_datasets, "_resolve_commit", lambda hub_id: "main")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_a_folder_that_is_called_as_a_set_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "owner" / "name" / "rows.csv").write_text("secret\nof this machine\n")
    with pytest.raises(DataError, match="names a file outside of the hub"):
        named_datasets.HubReader("owner/name", None, "train")


def test_neither_is_a_file_that_its_description_names(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("secret\nof this machine\n")
    (tmp_path / "owner" / "other").mkdir(parents=True)
    (tmp_path / "owner" / "other" / "README.md").write_text(README.format(path=secret))
    with pytest.raises(DataError, match=r"secret\.csv") as caught:
        named_datasets.HubReader("owner/other", None, "train")
    assert caught.value.field == "source"


@pytest.mark.parametrize(
    ("file", "read"),
    [
        ("hf://datasets/owner/name@main/rows.csv", True),
        ("/etc/passwd", False),
        ("http://10.0.0.1/rows.csv", False),
        ("file:///etc/passwd", False),
    ],
)
def test_where_its_files_may_lie(monkeypatch: pytest.MonkeyPatch, file: str, read: bool) -> None:
    rows = SimpleNamespace(info=SimpleNamespace(splits=None, features=["a"]), features=None)
    config = SimpleNamespace(data_files={"train": [file]})
    builder = SimpleNamespace(config=config, as_streaming_dataset=lambda split: rows)
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda hub_id, config, revision: builder)
    if read:
        assert named_datasets.HubReader("owner/name", None, "train").columns == ["a"]
    else:
        with pytest.raises(DataError, match="outside of the hub"):
            named_datasets.HubReader("owner/name", None, "train")
