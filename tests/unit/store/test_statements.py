"""Statements that people write: in a process of their own, over the store as it is, with limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store.core.errors import BusyError, EngineUnavailable, QueryError
from store.core.home import Home
from store.db import statements
from store.db.connection import StatementReader
from store.db.database import Database
from tests.unit.store_samples import open_store, read_rows, read_written

ENDLESS = "SELECT count(*) FROM range(1000000000000) t(a) WHERE hash(a) % 7 = 3"
# Constants are worked out before the statement begins: planned for longer than anybody waits.
GROWS = "repeat('a', 10000)"
for old, new in zip("abcdef", "bcdefg", strict=True):
    GROWS = f"replace({GROWS}, '{old}', repeat('{new}', 100))"
GROWS = f"SELECT length({GROWS})"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Database]]:
    home, database = open_store(tmp_path_factory.mktemp("statements"))
    yield home, database
    database.close()


Store = tuple[Home, Database]


def test_sees_all_that_was_committed_when_it_was_sent(store: Store) -> None:
    _, database = store
    for n in range(3):
        with database.transaction() as tx:
            tx.execute("INSERT INTO setting VALUES (?, 'x')", [f"n{n}"])
        assert _single(database, "SELECT count(*) FROM setting WHERE value = 'x'") == n + 1
        assert _single(database, "SELECT count(*) FROM setting WHERE value = $1", ["x"]) == n + 1


def test_sees_what_a_checkpoint_has_written(store: Store) -> None:
    _, database = store
    with database.transaction() as tx:
        tx.execute("CREATE TABLE many AS SELECT range AS n FROM range(10)")
    for n in range(1, 4):
        with database.transaction() as tx:
            tx.execute("INSERT INTO many SELECT range FROM range(100000)")
        if n % 2:
            database._root.execute("CHECKPOINT")
        assert _single(database, "SELECT count(*) FROM many") == 10 + n * 100_000


def test_copies_made_while_others_write_are_whole(store: Store) -> None:
    _, database = store
    with database.transaction() as tx:
        tx.execute("CREATE TABLE pair (n BIGINT, half VARCHAR)")
    committed, ended = 0, threading.Event()

    def write() -> None:
        nonlocal committed
        while not ended.is_set():
            with database.transaction() as tx:  # two tables' worth of rows that belong together
                tx.execute("INSERT INTO pair SELECT range, 'a' FROM range(2000)")
                tx.execute("INSERT INTO pair SELECT range, 'b' FROM range(2000)")
            committed += 1
            if committed % 7 == 0:
                with database._hold(20):  # as a commit does that writes one
                    database._root.execute("CHECKPOINT")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(8):
            before = committed
            sql = "SELECT count(*) FILTER (half = 'a') AS a, count(*) FILTER (half = 'b') AS b FROM pair"
            row = read_written(database.written(sql)).to_pylist()[0]
            assert row["a"] == row["b"]
            assert before <= row["a"] // 2000 <= committed + 1
    finally:
        ended.set()
        thread.join(20)


def test_the_store_is_not_copied_for_parquet_files_alone(tmp_path: Path) -> None:
    home, database = open_store(tmp_path)
    (home.datasets / "f").mkdir()
    pq.write_table(pa.table({"n": [1, 2, 3]}), home.datasets / "f" / "rows.parquet")
    rows = f"WITH rows AS (SELECT * FROM read_parquet('{home.datasets}/f/rows.parquet'))"
    assert _single(database, f"{rows} SELECT sum(n) FROM rows") == 6
    copies = home.cache / "statements"
    assert not list(copies.rglob("*.duckdb"))
    assert _single(database, "SELECT count(*) FROM job") == 0
    assert len(list(copies.rglob("*.duckdb"))) == 1
    database.close()
    assert not copies.exists()


def test_planning_without_end_is_ended_with_its_process(store: Store) -> None:
    _, database = store
    before = psutil.Process().memory_info().rss
    began = time.monotonic()
    with pytest.raises(QueryError, match=r"longer than 0\.5 s|more memory"):
        read_written(database.written(GROWS, timeout=0.5))
    assert time.monotonic() - began < 10
    assert not database._statements._running
    assert psutil.Process().memory_info().rss - before < 100 * 2**20


def test_what_needs_more_memory_than_it_may_use_is_told(store: Store) -> None:
    _, database = store
    sql = "SELECT length(string_agg(repeat('a', 9999), '')) FROM range(10000000)"
    with pytest.raises(QueryError, match="more memory than one may use"):
        read_written(database.written(sql))
    assert _single(database, "SELECT 1") == 1


def test_what_is_too_long_or_too_deep_is_refused(store: Store) -> None:
    _, database = store
    with pytest.raises(QueryError, match="bytes long"):
        database.written(f"SELECT '{'x' * 70_000}'")
    with pytest.raises(QueryError, match="more than 16 parts"):
        read_written(database.written("SELECT " + "a." * 20_000 + "a"))


def test_a_stream_that_fails_late_says_why(store: Store) -> None:
    sql = "SELECT CASE WHEN a = 3000000 THEN error('boom')::BIGINT ELSE a END AS n FROM range(5000000) t(a)"
    with pytest.raises(QueryError, match="boom"):
        read_written(store[1].written(sql))
    with pytest.raises(QueryError, match=r"longer than 0\.7 s"):
        read_written(store[1].written("SELECT hash(a) FROM range(1000000000000) t(a)", timeout=0.7))


def test_a_refusal_names_the_limit_however_late_the_statement_began(store: Store) -> None:
    database = store[1]
    late = time.monotonic() + 0.2  # half a second of the limit has gone into the copy of the store
    reading = StatementReader(
        database._root.cursor(), ENDLESS, [], 0.7, database._guard, database._watch, late
    )
    with pytest.raises(QueryError, match=r"longer than 0\.7 s"), reading:
        list(reading)
    assert time.monotonic() > late


def test_who_hangs_up_between_two_chunks_frees_the_place(store: Store) -> None:
    _, database = store
    taken = database._statements._taken
    statement = database.written("SELECT range AS n FROM range(100000000)")
    statement.first()
    assert database._statements._taken == taken + 1
    statement.close()
    assert database._statements._taken == taken
    assert statement.next()  # says that it was closed, and takes no place again
    assert statement.failed
    assert database._statements._taken == taken


def test_a_process_that_ended_while_it_waited_is_replaced(store: Store) -> None:
    _, database = store
    assert _single(database, "SELECT 1") == 1
    idle = database._statements._idle[0]
    idle._process.kill()
    idle._process.wait()
    assert _single(database, "SELECT 2") == 2


def test_who_finds_no_place_is_told_and_takes_none_from_the_screens(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, database = store
    monkeypatch.setattr(statements, "PLACES", 1)
    monkeypatch.setattr(statements, "WAIT_SECONDS", 0.1)
    slow = database.written(ENDLESS)
    thread = threading.Thread(target=_ended, args=(slow,))
    thread.start()
    try:
        _wait_for_a_place(database)
        with pytest.raises(BusyError, match="statements are under way") as caught:
            read_written(database.written("SELECT 1"))
        assert caught.value.status == 429
        assert read_rows(database, "SELECT 1").num_rows == 1
    finally:
        slow.close()
        thread.join(20)
    assert not thread.is_alive()


def test_stopping_kills_what_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, database = open_store(tmp_path)
    monkeypatch.setattr(statements, "PLACES", 1)
    errors: list[Exception] = []
    threads = [
        threading.Thread(target=lambda: errors.append(_ended(database.written(ENDLESS)))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    _wait_for_a_place(database)
    began = time.monotonic()
    database.stop_written()
    for thread in threads:
        thread.join(10)
    assert time.monotonic() - began < statements.WAIT_SECONDS  # those that wait for a place are told as well
    assert len(errors) == 4
    assert all(isinstance(error, EngineUnavailable) for error in errors)
    with pytest.raises(EngineUnavailable, match="being stopped"):
        read_written(database.written("SELECT 1"))
    database.close()
    assert not (home.cache / "statements").exists()


def _wait_for_a_place(database: Database) -> None:
    deadline = time.monotonic() + 20
    while not database._statements._running:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _ended(statement: statements.Statement) -> Exception:
    try:
        read_written(statement)
    except (QueryError, EngineUnavailable) as error:
        return error
    raise AssertionError("it ended by itself")


def _single(database: Database, sql: str, params: list[object] | None = None) -> object:
    return read_written(database.written(sql, params or [])).column(0)[0].as_py()
