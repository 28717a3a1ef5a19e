"""Counting, paging and histograms in SQL against pandas on random rows; names and values that bite."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store.core.errors import ConfigError, QueryError
from store.data import datasets, exploration, histogram
from store.data.exploration import Sort, TablePage
from store.data.filters import Condition, Filter
from store.db.database import Database, utc_now
from tests.unit.store_samples import FINGERPRINT, open_store, read_rows, write_dataset

N = 500
HOSTILE = 'it\'s "x"; DROP.~/*'
FILES = {
    "text": ("characters", "repetition", "truncated", "language"),
    "duplicates": ("near_group", "conflict"),
}


def _frame() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "row_id": np.arange(N),
            "text": [f"row {i} says {w}" for i, w in enumerate(rng.choice(["yes", "No", "Ünï"], N))],
            "label": rng.choice(["a", "b", "c'; --", "<b>"], N),
            "characters": rng.lognormal(5, 1.5, N).astype("int32"),
            "repetition": rng.random(N).astype("float32"),
            "truncated": rng.random(N) < 0.2,
            "language": rng.choice([f"l{i:02}" for i in range(40)], N),
            "near_group": np.where(rng.random(N) < 0.3, rng.integers(0, 9, N), -1),
            "conflict": rng.random(N) < 0.1,
            HOSTILE: rng.integers(0, 50, N),
        }
    )
    frame["near_group"] = frame["near_group"].where(frame["near_group"] >= 0).astype("Int64")
    frame.loc[rng.choice(N, 30, replace=False), "repetition"] = None
    return frame


FRAME = _frame()
Looked = tuple[Database, exploration.DatasetTable]


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Looked]:
    home, database = open_store(tmp_path_factory.mktemp("explore") / "home")
    row = write_dataset(home, FRAME["text"].tolist(), FRAME["label"].tolist())
    row.row_count, row.kind = N, "chat"
    row.columns, row.stats = {"prompt": HOSTILE}, {"label_count": 4}
    file = home.rows(FINGERPRINT)
    table = pq.read_table(file)
    turns = [
        [{"role": "user", "content": "Say."}, {"role": "assistant", "content": t}] for t in FRAME["text"]
    ]
    source = [json.dumps({HOSTILE: int(n), "word": f"w{n % 3}"}) for n in FRAME[HOSTILE]]
    table = table.set_column(table.schema.get_field_index("source"), "source", pa.array(source))
    pq.write_table(table.append_column("messages", pa.array(turns)), file)
    for group, names in FILES.items():
        path = home.signals(FINGERPRINT, group)
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pandas(FRAME[["row_id", *names]], preserve_index=False), path)
    with database.transaction() as tx:
        datasets.insert_dataset(tx, row)
        for group in FILES:
            datasets.record_signals(tx, FINGERPRINT, group, _measured(group), utc_now())
    dataset = datasets.get_dataset(database, "d1")
    measured = datasets.signals(database, FINGERPRINT)
    columns = exploration.columns(dataset, measured, exploration.example_row(database, dataset))
    # what the seeded sidecars lack of their groups is not asked for
    yield database, exploration.DatasetTable(dataset, measured, columns)
    database.close()


def _measured(group: str) -> dict[str, Any]:
    figures = {}
    for name in FILES[group]:
        if FRAME[name].dtype.kind in "if":
            values = FRAME[name].dropna()
            parts = {"min": values.min(), "p95": values.quantile(0.95), "max": values.max()}
            figures[name] = {key: float(value) for key, value in parts.items()} | {"n": len(values)}
    shared = {"options": {}, "row_count": N, "reused_count": 0, "seconds": 1.0}
    return shared | {"figures": figures}


def on(column: str, op: Any, value: Any = None) -> Condition:
    return Condition(column=column, op=op, value=value)


CASES = [
    (Filter(), FRAME["row_id"] >= 0),
    (Filter(search="YES"), FRAME["text"].str.contains("yes")),
    (Filter(regex="^row 1.*No$"), FRAME["text"].str.contains("^row 1.*No$")),
    (Filter(conditions=[on("label", "is", "c'; --")]), FRAME["label"] == "c'; --"),
    (
        Filter(conditions=[on("truncated", "is", True), on("near_group", "is not", None)]),
        FRAME["truncated"] & FRAME["near_group"].notna(),
    ),
    (
        Filter(
            search="ünï", conditions=[on("characters", "between", [50, 500]), on("conflict", "is", False)]
        ),
        FRAME["text"].str.contains("Ünï") & FRAME["characters"].between(50, 499) & ~FRAME["conflict"],
    ),
    (Filter(conditions=[on(f"source.{HOSTILE}", ">", 9)]), FRAME[HOSTILE] > 9),
    (Filter(conditions=[on("source.word", "is", "w1")]), FRAME[HOSTILE] % 3 == 1),
    (Filter(conditions=[on("answer", "contains", "says no")]), FRAME["text"].str.contains("says No")),
    (Filter(row_ids=[3, 5, 499], conditions=[on("row_id", ">", 3)]), FRAME["row_id"].isin([5, 499])),
]


@pytest.mark.parametrize(("where", "mask"), CASES)
def test_counts_pages_and_histograms_are_those_of_pandas(looked: Looked, where: Filter, mask: Any) -> None:
    database, rows = looked
    wanted = FRAME[mask]
    assert exploration.count(database, rows, where) == len(wanted)
    ids = exploration.row_ids(database, rows, where, Sort("repetition", descending=True), limit=40, offset=3)
    order = wanted.sort_values(["repetition", "row_id"], ascending=[False, True], na_position="last")
    assert ids == order["row_id"].tolist()[3:43]
    first = exploration.find(database, rows, where, Sort("repetition", descending=True), limit=5)
    assert first == (len(wanted), order["row_id"].tolist()[:5])
    plain = exploration.find(database, rows, where, limit=5)
    assert plain == (len(wanted), wanted["row_id"].tolist()[:5])
    facets = histogram.facets(database, rows, ["characters", "repetition", "language", "near_group"], where)
    for name in ("characters", "repetition"):
        bars, values = facets[name].bars, FRAME[name].astype(float)
        assert bars[0].low <= values.min()
        assert bars[-1].high > values.max()
        for bar in bars:
            inside = (values >= bar.low) & (values < bar.high)
            assert (bar.rows, bar.hits) == (inside.sum(), (inside & mask).sum())
        assert facets[name].missing == (values.isna().sum(), (values.isna() & mask).sum())
    languages = FRAME["language"].value_counts()
    facet = facets["language"]
    assert {bar.value: bar.rows for bar in facet.bars} == {
        bar.value: languages[bar.value] for bar in facet.bars
    }
    assert [bar.rows for bar in facet.bars] == languages.tolist()[: histogram.TOP]
    assert sum(bar.hits for bar in facet.bars) + facet.others[1] == len(wanted)
    assert facet.others_values == 40 - histogram.TOP
    assert sum(bar.rows for bar in facets["near_group"].bars) == FRAME["near_group"].notna().sum()


@pytest.mark.parametrize("column", ["characters", "language", "truncated", "near_group", f"source.{HOSTILE}"])
def test_a_click_on_a_bar_means_the_rows_of_the_bar(looked: Looked, column: str) -> None:
    database, rows = looked
    facet = histogram.facets(database, rows, [column], Filter())[column]
    for bar in facet.bars:
        assert exploration.count(database, rows, Filter(conditions=[facet.condition(bar)])) == bar.rows


@pytest.mark.parametrize("few", [20_000, 10])  # values counted one by one, or spans asked for first
def test_a_number_that_nobody_measured_has_bars_of_its_rows(
    looked: Looked, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, rows = looked
    monkeypatch.setattr(histogram, "FEW", few)
    where = Filter(conditions=[on("truncated", "is", True)])
    column = f"source.{HOSTILE}"
    facet = histogram.facets(database, rows, [column, "language"], where)[column]
    values, mask = FRAME[HOSTILE], FRAME["truncated"]
    assert (facet.bars[0].low, facet.bars[-1].high) == (0, 50)
    for bar in facet.bars:
        inside = (values >= bar.low) & (values < bar.high)
        assert (bar.rows, bar.hits) == (inside.sum(), (inside & mask).sum())
    assert (sum(bar.rows for bar in facet.bars), facet.missing) == (N, (0, 0))


def test_a_page_has_the_columns_named_and_long_texts_as_their_beginning(looked: Looked) -> None:
    database, rows = looked
    names = ("text", "characters", f"source.{HOSTILE}", "prompt", "turns")
    page = exploration.page(database, rows, Filter(), TablePage(names, limit=3, offset=7))
    assert [row["row_id"] for row in page] == [7, 8, 9]
    assert page[0] == {
        "row_id": 7,
        "text": FRAME["text"][7],
        "characters": FRAME["characters"][7],
        f"source.{HOSTILE}": FRAME[HOSTILE][7],
        "prompt": "Say.",
        "turns": 2,
    }
    cut = exploration.values_of(database, rows, [7], ["text"], shorten=5)
    assert cut == [{"row_id": 7, "text": FRAME["text"][7][:5] + "…"}]
    assert exploration.row_ids(database, rows, Filter(), Sort(descending=True), limit=2) == [N - 1, N - 2]


def test_rows_of_a_group_are_found_together(looked: Looked) -> None:
    database, rows = looked
    group = FRAME[FRAME["near_group"] == FRAME["near_group"].dropna().iloc[0]]["row_id"].tolist()
    assert exploration.companions(database, rows, "near_group", group[1], limit=5) == (len(group), group[:5])
    alone = int(FRAME[FRAME["near_group"].isna()]["row_id"].iloc[0])
    assert exploration.companions(database, rows, "near_group", alone) == (0, [])


@pytest.mark.parametrize(
    "where",
    [
        Filter(search="YES"),
        Filter(regex="says N"),
        Filter(search="yes", conditions=[Condition(column="characters", op=">", value=100)]),
        Filter(search="yes", row_ids=[1, 2, 3, 4, 5, 6, 7]),
        Filter(search="nowhere"),
    ],
)
def test_a_search_is_done_once_for_all_questions_about_it(looked: Looked, where: Filter) -> None:
    database, rows = looked
    ids = exploration.matching(database, rows, where.search, where.regex)
    assert ids is not None
    narrow = exploration.narrow_filter(where, ids)
    assert "text" not in rows.needed(narrow)
    assert exploration.find(database, rows, narrow) == exploration.find(database, rows, where)
    assert exploration.count(database, rows, narrow) == exploration.count(database, rows, where)
    names = ["characters", "language"]
    assert histogram.facets(database, rows, names, narrow) == histogram.facets(database, rows, names, where)


def test_a_search_that_finds_too_many_rows_stays_a_search(
    looked: Looked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exploration, "MATCHING", 10)
    assert exploration.matching(*looked, "row", "") is None
    assert exploration.matching(*looked, "row 77 says", "") == [77]


class NobodyToAsk:
    """A store that must not be asked."""

    def query(self, sql: str, params: object = ()) -> pa.Table:
        raise AssertionError(f"asked: {sql}")


def test_rows_whose_numbers_are_known_are_counted_and_paged_without_a_look(looked: Looked) -> None:
    rows, nobody = looked[1], NobodyToAsk()
    chosen = Filter(row_ids=[7, 3, 3, N + 5, 490, 12, -1])
    assert exploration.find(nobody, rows, chosen, limit=3) == (4, [3, 7, 12])
    assert exploration.find(nobody, rows, chosen, Sort(descending=True), limit=3) == (4, [490, 12, 7])
    assert exploration.count(nobody, rows, chosen) == exploration.count(looked[0], rows, chosen) == 4
    assert exploration.row_ids(nobody, rows, chosen, limit=2, offset=2) == [12, 490]
    assert exploration.find(nobody, rows, Filter(row_ids=[])) == (0, [])
    both = chosen.model_copy(update={"conditions": [Condition(column="truncated", op="is", value=True)]})
    with pytest.raises(AssertionError, match="asked"):
        exploration.count(nobody, rows, both)


def test_only_the_files_that_are_needed_are_read(looked: Looked) -> None:
    _, rows = looked
    assert rows.relation(["characters"])[1] == [rows.measured["text"].path]
    assert rows.relation(["label"])[1] == [rows.dataset.rows_path]
    assert len(rows.relation(["text", "conflict"])[1]) == 2


@pytest.mark.parametrize("order", ["row_id; DROP TABLE dataset; --", "nothing", "email"])
def test_a_column_that_is_not_there_is_refused(looked: Looked, order: str) -> None:
    database, rows = looked
    with pytest.raises(ConfigError):
        exploration.row_ids(database, rows, Filter(), Sort(order))


def test_a_users_select_sees_rows_and_signals_and_can_only_read(looked: Looked) -> None:
    database, rows = looked
    small = exploration.DatasetTable(
        rows.dataset, {}, {k: v for k, v in rows.columns.items() if k in ("row_id", "label")}
    )
    sql, files = exploration.build_user_select(
        small, "WITH x AS (SELECT * FROM rows) SELECT label, count(*) n FROM x GROUP BY 1; "
    )
    counts = {row["label"]: row["n"] for row in read_rows(database, sql, files).to_pylist()}
    assert counts == FRAME["label"].value_counts().to_dict()
    for bad in (
        "DELETE FROM dataset",
        "SELECT 1); DROP TABLE dataset; --",
        "SELECT * FROM read_csv('/etc/passwd')",
    ):
        with pytest.raises(QueryError):
            read_rows(database, *exploration.build_user_select(small, bad))


def test_sql_names_the_columns_of_the_file_as_the_file_does(looked: Looked) -> None:
    database, rows = looked
    columns = rows.columns | {
        f"source.{name}": exploration.TableColumn(f"source.{name}", "category", name)
        for name in ("Label", "row_id", "file_row_id", "")
    }
    wide = exploration.DatasetTable(rows.dataset, rows.measured, columns)
    named = exploration.map_sql_columns(wide)
    assert next(iter(named)) == "row_id"
    assert named[HOSTILE] == f"source.{HOSTILE}"
    assert named["Label"] == "source.Label"
    assert named["tunebench_label"] == "label"  # SQL does not tell case apart
    assert named["file_row_id"] == "source.row_id"
    assert named["file_file_row_id"] == "source.file_row_id"
    assert named["file_"] == "source."
    quoted = HOSTILE.replace('"', '""')
    sql = f'SELECT "{quoted}" AS own, label, characters FROM rows ORDER BY row_id'
    there = ("row_id", "text", "label", "characters", f"source.{HOSTILE}")
    small = exploration.DatasetTable(
        rows.dataset, rows.measured, {name: rows.columns[name] for name in there}
    )
    selected = read_rows(database, *exploration.build_user_select(small, sql)).to_pydict()
    assert selected["own"] == FRAME[HOSTILE].tolist()
    assert selected["characters"] == FRAME["characters"].tolist()


@pytest.mark.parametrize(
    ("name", "written"),
    [("product", "product"), ("Opened at", '"Opened at"'), ("order", '"order"'), ('a"b', '"a""b"'),
     ("ü", '"ü"'), ("1st", '"1st"'), ("_x1", "_x1")],
)  # fmt: skip
def test_names_that_need_quotes_have_them(name: str, written: str) -> None:
    assert exploration.quote_if_needed(name) == written


def test_every_word_that_duckdb_reserves_is_quoted() -> None:
    words = duckdb.sql("SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'")
    assert [name for (name,) in words.fetchall() if exploration.quote_if_needed(name) == name] == []


def test_of_a_file_with_many_columns_sql_has_those_that_it_names(looked: Looked) -> None:
    database, rows = looked
    many = [f"source.question_number_{i}" for i in range(1_000)]
    columns = rows.columns | {name: exploration.TableColumn(name, "category", name) for name in many}
    wide = exploration.DatasetTable(rows.dataset, rows.measured, columns)
    sql, files = exploration.build_user_select(wide, "SELECT Question_Number_7, label FROM rows LIMIT 3")
    assert len(sql) < exploration.MAX_BYTES
    assert read_rows(database, sql, files).column_names == ["question_number_7", "label"]


@pytest.mark.parametrize(
    ("low", "high", "top", "whole"),
    [(50, 646, 2172, True), (0, 0, 9000, True), (0, 1, 1, True), (0.0, 0.4, 1.0, False),
     (-3.2, 2, 4.1, False), (7, 7, 7, True), (0.25, 0.25, 0.25, False), (0, 3, 10_000_000, True),
     (1e-9, 2e-9, 3e-9, False)],
)  # fmt: skip
def test_edges_rise_reach_both_ends_and_are_few(low: float, high: float, top: float, whole: bool) -> None:
    edges = histogram.compute_nice_edges(float(low), float(high), float(top), whole=whole)
    assert edges[0] <= low
    assert edges[-1] > top
    assert all(a < b for a, b in itertools.pairwise(edges))
    assert 2 <= len(edges) <= 40
    if whole:
        assert all(edge == int(edge) for edge in edges)
