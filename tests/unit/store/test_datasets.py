"""Data sets: paths, search, paging, and what renaming, splitting and deleting refuse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from store.core.errors import ConfigError, NotFoundError, StateError
from store.core.home import Home
from store.data import datasets
from store.data.schemas import NewDataset
from store.db.database import Database
from store.training.split import Split
from tests.unit.store_samples import FINGERPRINT, add_job, new_store, write_dataset

TEXTS = [
    "Paris is in France",
    "100% sure",
    "under_score",
    "STRASSE",
    "Ärger",
    "it's; DROP TABLE dataset; --",
    "rome",
]
LABELS = ["Capital", "odd", None, None, None, "odd", "CAPITAL"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[Home, Database, NewDataset]]:
    home, database = new_store(tmp_path / "home")
    row = write_dataset(home, TEXTS, LABELS)
    with database.transaction() as tx:
        datasets.insert_dataset(tx, row)
    yield home, database, row
    database.close()


Store = tuple[Home, Database, NewDataset]


def test_a_data_set_is_found_by_id_and_by_name_with_absolute_paths(store: Store) -> None:
    home, database, row = store
    by_id, by_name = datasets.get_dataset(database, "d1"), datasets.get_dataset(database, "Capitals")
    assert by_id == by_name == datasets.list_datasets(database)[0]
    assert vars(by_id) == {**vars(by_id), **vars(row)}
    assert by_id.rows_path == str(home.rows(FINGERPRINT))
    assert by_id.skipped_path == str(home.skipped(FINGERPRINT))
    with pytest.raises(NotFoundError, match="no data set 'x'"):
        datasets.get_dataset(database, "x")


def test_a_name_that_is_the_id_of_another_gives_way_to_the_id(store: Store) -> None:
    _, database, row = store
    with database.transaction() as tx:
        datasets.insert_dataset(tx, replace(row, dataset_id="d2", name="d1"))
    assert datasets.get_dataset(database, "d1").name == "Capitals"


def test_rows_by_id_come_in_the_order_asked_for(store: Store) -> None:
    _, database, _ = store
    dataset = datasets.get_dataset(database, "d1")
    assert [row["text"] for row in datasets.get_rows(database, dataset, [6, 0])] == ["rome", TEXTS[0]]
    with pytest.raises(NotFoundError, match="Capitals has no row 70; it has 7 rows"):
        datasets.get_rows(database, dataset, [0, 70])


def test_skipped_rows_come_by_line(store: Store) -> None:
    _, database, _ = store
    dataset = datasets.get_dataset(database, "d1")
    assert [row.line for row in datasets.skipped(database, dataset)] == [4, 9]
    assert datasets.skipped(database, dataset, limit=1, offset=1)[0].reason == "no text"
    assert [row.line for row in datasets.skipped(database, dataset, limit=1, from_line=9)] == [9]


def test_renaming(store: Store) -> None:
    _, database, row = store
    with database.transaction() as tx:
        datasets.insert_dataset(tx, replace(row, dataset_id="d2", name="Other"))
        datasets.rename_dataset(tx, "Capitals", "  Cities ")
        datasets.rename_dataset(tx, "d1", "Cities")  # its own name is not taken
        for name, problem in (
            ("Other", "named 'Other' already"),
            ("  ", "0 characters"),
            ("x" * 81, "81 characters"),
        ):
            with pytest.raises(ConfigError, match=problem) as caught:
                datasets.rename_dataset(tx, "d1", name)
            assert caught.value.field == "name"
    assert datasets.get_dataset(database, "d1").name == "Cities"


def test_a_taken_name_is_refused_at_the_import(store: Store) -> None:
    _, database, row = store
    with database.transaction() as tx, pytest.raises(ConfigError, match="named 'Capitals' already"):
        datasets.insert_dataset(tx, replace(row, dataset_id="d2"))


def test_the_split_is_set(store: Store) -> None:
    _, database, _ = store
    with database.transaction() as tx:
        datasets.set_split(tx, "d1", Split(split_seed=7, validation_size=0.2, test_size=0.0))
    row = datasets.get_dataset(database, "d1")
    assert (row.split_seed, row.validation_size, row.test_size) == (7, 0.2, 0.0)


def test_files_go_with_the_last_data_set_that_names_them(store: Store) -> None:
    _, database, row = store
    with database.transaction() as tx:
        datasets.insert_dataset(tx, replace(row, dataset_id="d2", name="Twin"))
        assert datasets.delete_dataset(tx, "d1") is None
        assert datasets.delete_dataset(tx, "Twin") == FINGERPRINT
    assert datasets.list_datasets(database) == []


@pytest.mark.parametrize("status", ["queued", "training", "finished", "failed", "lost", "cancelled"])
def test_a_data_set_that_a_run_may_need_is_not_deleted(store: Store, status: str) -> None:
    _, database, _ = store
    add_job(database, "needs it", status=status)
    with (
        database.transaction() as tx,
        pytest.raises(StateError, match="Capitals is used by the run Needs It"),
    ):
        datasets.delete_dataset(tx, "d1")


def test_a_version_that_another_was_made_from_is_deleted_after_it(store: Store) -> None:
    _, database, row = store
    with database.transaction() as tx:
        child = replace(row, dataset_id="d2", name="Child", parent_id="d1", fingerprint="beef")
        datasets.insert_dataset(tx, child)
        with pytest.raises(StateError, match="Capitals is what a version was made from: Child"):
            datasets.delete_dataset(tx, "d1")
        assert datasets.delete_dataset(tx, "Child") == "beef"
        assert datasets.delete_dataset(tx, "d1") == FINGERPRINT
