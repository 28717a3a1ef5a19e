"""A split by a column that the rows don't have is refused where it is asked for, not at the next launch."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.data.split.partition import check_split_column
from store.core.errors import ConfigError
from store.core.home import Home
from store.data import datasets
from store.training.split import Split
from tests.unit.data_job import import_file
from tests.unit.desk import Desk
from tests.unit.recipe_samples import chat, folders, make, measure
from tests.unit.store_samples import new_dataset

ROWS = [
    chat("q0", "a0"),
    chat("q1", "a1", author=None),
    *(chat(f"q{n}", f"a{n}", author="x") for n in range(2, 9)),
]
FIX = "The first row has source.question, source.answer."


@pytest.mark.parametrize("column", ["source.author", "turns", "source.question", None, "words"])
def test_a_column_of_any_row_is_taken(home: Home, column: str | None) -> None:
    dataset = make(home, ROWS)
    measure(home, dataset, "text", words=list(range(9)))
    by = "random" if column is None else "group"
    check_split_column(home.rows(dataset["fingerprint"]).parent, Split(split_by=by, split_column=column))


@pytest.mark.parametrize(
    ("by", "column", "message"),
    [
        ("group", "label", f"No row has a column 'label' to split by. {FIX}"),
        ("stratified", None, f"No row has a column 'label' to split by. {FIX}"),
        ("time", "source.date", f"No row has a column 'source.date' to split by. {FIX}"),
        ("group", "author", f"No row has a column 'author' to split by. {FIX}"),
        ("group", "words", "words has not been measured for this data set yet. Measure the group"),
    ],
)
def test_a_column_that_no_row_has_is_refused_with_those_there_are(
    home: Home, by: str, column: str | None, message: str
) -> None:
    folder = home.rows(make(home, ROWS)["fingerprint"]).parent
    with pytest.raises(ConfigError) as caught:
        check_split_column(folder, Split(split_by=by, split_column=column))
    assert str(caught.value).startswith(message)
    assert caught.value.field == "split_column"


def test_the_command_refuses_it_and_changes_nothing(desk: Desk) -> None:
    dataset = make(desk.home, ROWS)
    names = ("dataset_id", "name", "kind", "format", "columns", "row_count", "fingerprint")
    row = new_dataset(**{name: dataset[name] for name in names})
    with desk.database.transaction() as tx:
        datasets.insert_dataset(tx, row)
    with pytest.raises(ConfigError, match="No row has a column 'label'"):
        desk("set_split", dataset="Old", split_by="group", split_column="label")
    assert datasets.get_dataset(desk.database, "Old").split_by == "random"
    desk("set_split", dataset="Old", split_by="group", split_column="source.author")
    assert datasets.get_dataset(desk.database, "Old").split_column == "source.author"


def test_an_import_that_asks_for_it_leaves_nothing(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "q", "answer": "a"}\n' * 3)
    with pytest.raises(
        ConfigError, match=r"'source\.author' to split by\. The first row has source\.question"
    ):
        import_file(home, path, split_by="group", split_column="source.author")
    assert not folders(home)
