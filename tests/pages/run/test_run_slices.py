"""The gain by slice on a run's page: on held-out rows of the slice alone, and told from noise or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.evaluation.statistics.intervals import ratio_interval
from store.core.home import Home
from store.core.rights import OWNER
from store.data import datasets, exploration, saved_recipes
from store.data.filters import Filter
from store.db.database import Database, Transaction, utc_now
from store.evaluation import scored_rows
from tests.pages.conftest import Open, everything_said
from tests.pages.run.run_tabs import on_tab
from tests.pages.seeds.seed_runs import FINGERPRINT, ROWS, seed_runs
from tests.pages.still_engine import StillEngine, still_engine
from tests.unit.store_samples import new_dataset

EVEN = {"conditions": [{"column": "label", "op": "is", "value": "even"}]}
TEN = {"row_ids": [*range(10), 5_000]}


def add_rows(home: Home) -> None:
    """The data set that the runs were trained on: twice as many rows as they held out, and its slices."""
    file = home.rows(FINGERPRINT)
    file.parent.mkdir(parents=True)
    count = 2 * ROWS
    columns = {
        "row_id": pa.array(range(count), pa.int64()),
        "line": pa.array(range(1, count + 1), pa.int64()),
        "messages": pa.nulls(count, pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        "text": [f"row {i}" for i in range(count)],
        "label": ["even" if i % 2 == 0 else "odd" for i in range(count)],
        "rejected": pa.nulls(count, pa.string()),
        "digest": pa.array(range(count), pa.uint64()),
        "source": ["{}"] * count,
    }
    pq.write_table(pa.table(columns), file)
    row = new_dataset(
        "d1",
        "Sums",
        kind="text",
        format="text",
        fingerprint=FINGERPRINT,
        row_count=count,
        stats={"label_count": 2},
    )
    database = Database(home.database, [home.datasets, home.jobs])
    with database.transaction() as tx:
        datasets.insert_dataset(tx, row)
        keep_slice(tx, "Even rows", EVEN)
        keep_slice(tx, "Ten rows", TEN)
        keep_slice(tx, "No row held out", {"row_ids": [ROWS + 1]})
    database.close()


def keep_slice(tx: Transaction, name: str, where: dict[str, Any]) -> None:
    saving = saved_recipes.SaveRequest(name, OWNER, utc_now(), shared=True, seen=None)
    saved_recipes.save_slice(tx, f"slice-{name}", "d1", Filter.parse(where), saving)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    home = seed_runs(tmp_path_factory.mktemp("slices"))
    add_rows(home)
    with still_engine(home) as served:
        yield served


def test_only_held_out_rows_of_the_slice_count(engine: StillEngine) -> None:
    db = engine.database
    dataset = datasets.get_dataset(db, "d1")
    rows = exploration.DatasetTable(dataset, {}, exploration.columns(dataset, {}, {}))
    table = scored_rows.sliced_losses(db, "learned", "test", rows, Filter.parse(EVEN))
    assert table["row_id"].to_pylist() == list(range(0, ROWS, 2))
    assert scored_rows.sliced_losses(db, "learned", "test", rows, Filter.parse(TEN)).num_rows == 10
    assert scored_rows.sliced_losses(db, "learned", "validation", rows, Filter.parse(EVEN)).num_rows == 0


def test_the_tab_shows_each_slice_with_its_interval(engine: StillEngine, open_page: Open) -> None:
    at = on_tab(open_page(engine.home, "pages/runs/run.py", run="learned"), "slices")
    (frame,) = (f.value for f in at.dataframe if "Slice" in f.value.columns)
    assert frame["Slice"].tolist() == ["All held-out rows", "Even rows", "No row held out", "Ten rows"]
    assert frame["Held-out rows"].tolist() == [ROWS, ROWS // 2, 0, 10]
    assert frame.iloc[2, -1] == "no held-out row in this slice"
    losses = pq.read_table(engine.home.jobs / "learned" / "row_losses.parquet").to_pandas()
    even = losses[losses.row_id % 2 == 0]
    gain = ratio_interval(even.base_loss - even.tuned_loss, even.tokens, confidence=1 - 0.05 / 3)
    assert f"{gain.value:.2f}" in frame.iloc[1, 1]
    assert "widened for 3 slices" in everything_said(at)


def test_without_slices_the_page_says_how_to_make_one(engine: StillEngine, open_page: Open) -> None:
    with engine.database.transaction() as tx:
        kept = saved_recipes.slices(tx, "d1", OWNER.person_id)
        for row in kept:
            saved_recipes.delete_slice(tx, row, OWNER)
    try:
        at = on_tab(open_page(engine.home, "pages/runs/run.py", run="learned"), "slices")
        assert "The data set has no slices." in everything_said(at)
    finally:
        with engine.database.transaction() as tx:
            for row in kept:
                keep_slice(tx, row.name, row.filter)
