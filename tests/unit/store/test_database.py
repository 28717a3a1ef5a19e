"""The one connection: migrations, one writer, snapshots, and what a second process or a newer file meets."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest.mock import Mock, patch

import duckdb
import pyarrow as pa
import pytest

from store.core.errors import QueryError, StateError
from store.db import database as database_module
from store.db.database import Database, utc_now
from store.db.schema import MIGRATIONS
from store.jobs import metric_points
from tests.unit.store_samples import POINTS, open_store, read_rows

LAST_WITH_HEARTBEATS = 5  # of the migrations


def test_a_new_store_has_every_migration_and_its_home(tmp_path: Path) -> None:
    home, database = open_store(tmp_path / "it's home")
    assert database.query("SELECT name FROM migration").column("name").to_pylist() == [
        n for n, _ in MIGRATIONS
    ]
    assert database.query("SELECT value FROM setting WHERE name = 'home'").to_pylist() == [
        {"value": str(home.path)}
    ]


def test_opening_again_keeps_rows_and_follows_a_home_that_was_moved(tmp_path: Path) -> None:
    _, database = open_store(tmp_path / "a")
    with database.transaction() as tx:
        tx.execute("INSERT INTO setting VALUES ('kept', 'yes')")
    database.close()
    (tmp_path / "a").rename(tmp_path / "b")
    _, database = open_store(tmp_path / "b")
    rows = database.query("SELECT name, value FROM setting ORDER BY name").to_pylist()
    assert rows == [{"name": "home", "value": str(tmp_path / "b")}, {"name": "kept", "value": "yes"}]


def test_a_failing_migration_leaves_nothing_and_the_earlier_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, database = open_store(tmp_path)
    database.close()
    broken = ("0002 broken", "CREATE TABLE half (a INTEGER); SELECT error('no');")
    monkeypatch.setattr(database_module, "MIGRATIONS", (*MIGRATIONS, broken))
    with pytest.raises(Exception, match="no"):
        open_store(tmp_path)
    monkeypatch.setattr(
        database_module, "MIGRATIONS", (*MIGRATIONS, ("0002 whole", "CREATE TABLE whole (a INTEGER)"))
    )
    _, database = open_store(tmp_path)
    tables = set(database.query("SELECT table_name FROM duckdb_tables()").column(0).to_pylist())
    assert "whole" in tables
    assert "half" not in tables


OLDER_ROWS = """
    INSERT INTO job (job_id, kind, lane, title, status, config, after_jobs, created_at, heartbeat_at)
    VALUES ('r', 'train', 'device', 'R', 'training', '{}', [], $at, $at);
    INSERT INTO run VALUES
        ('r', 1, 'R', '', 'd', 'D', NULL, 'm', 'lora', 0, '{}', '{"best_step": 2}', NULL, $at);
    INSERT INTO metric VALUES ('r', 'eval/loss', 0, 2.0, $at), ('r', 'eval/loss', 2, 1.0, $at);
    INSERT INTO metric_summary VALUES
        ('r', 'eval/loss', 2, 0, 1.0, 2.0, 3.0, 5.0, 2, 0, 0, 2.0, $at, 2, 1.0, $at);
""".replace("$at", "TIMESTAMP '2026-01-02 03:04:05'")


@pytest.mark.parametrize("count", range(1, LAST_WITH_HEARTBEATS + 1))
def test_an_older_store_opens_with_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(database_module, "MIGRATIONS", MIGRATIONS[:count])
    _, database = open_store(tmp_path)
    with database.transaction() as tx:
        for statement in OLDER_ROWS.split(";\n")[:-1]:
            tx.execute(statement)
    database.close()
    monkeypatch.undo()
    _, database = open_store(tmp_path)
    (run,) = database.query("SELECT * FROM run_overview").to_pylist()
    assert (run["name"], run["status"], run["best_step"]) == ("R", "training", 2)
    assert (run["base_eval_loss"], run["last_eval_loss"]) == (2.0, 1.0)
    (job,) = database.query("SELECT * FROM job").to_pylist()
    assert "heartbeat_at" not in job.keys() | run.keys()
    with database.transaction() as tx:  # the summary goes on from what it had
        columns = [["r"], ["eval/loss"], [3], [4.0], [utc_now()], [0]]
        metric_points.add(
            tx, pa.table([pa.array(c, f.type) for c, f in zip(columns, POINTS, strict=True)], POINTS)
        )
    (summary,) = metric_points.summaries(database, ["r"])
    assert (summary.count, summary.sum, summary.last_value) == (3, 7.0, 4.0)
    assert not hasattr(summary, "sum_squares")


def test_a_store_of_a_newer_tunebench_is_refused(tmp_path: Path) -> None:
    home, database = open_store(tmp_path)
    with database.transaction() as tx:
        tx.execute("INSERT INTO migration VALUES ('0099 of the future', now()::TIMESTAMP)")
    database.close()
    with pytest.raises(StateError, match="newer Tunebench: it has '0099 of the future'"):
        Database(home.database, [])


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "tunebench.duckdb"
    file.write_bytes(b"not a database, but long enough to look like one" * 1000)
    with pytest.raises(StateError, match=r"tunebench\.duckdb can't be opened"):
        Database(file, [])


def test_a_store_that_another_process_has_open_is_named(tmp_path: Path) -> None:
    home, database = open_store(tmp_path)
    script = f"""
from store.db.database import Database
from store.core.errors import StateError
try:
    Database({str(home.database)!r}, [])
except StateError as error:
    print(error.message)
"""
    stdout = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert stdout.startswith("Another process has the store")
    database.close()


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    _, database = open_store(tmp_path)

    def begin_and_fail() -> None:
        with database.transaction() as tx:
            tx.execute("INSERT INTO setting VALUES ('a', '1')")
            assert len(tx.query("SELECT * FROM setting WHERE name = 'a'")) == 1
            assert len(database.query("SELECT * FROM setting WHERE name = 'a'")) == 0  # others do not see it
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        begin_and_fail()
    assert len(database.query("SELECT * FROM setting WHERE name = 'a'")) == 0


def test_execute_says_how_many_rows_it_changed(tmp_path: Path) -> None:
    _, database = open_store(tmp_path)
    with database.transaction() as tx:
        assert tx.execute("INSERT INTO setting VALUES ('a', '1'), ('b', '1')") == 2
        assert tx.execute("UPDATE setting SET value = '2' WHERE name = ?", ["a"]) == 1
        assert tx.execute("CREATE TABLE t (a INTEGER)") == 0


def test_a_transaction_reads_an_arrow_table_by_name_until_its_block_ends(tmp_path: Path) -> None:
    _, database = open_store(tmp_path)
    with database.transaction() as tx:
        with tx.table("incoming", pa.table({"name": ["a", "b"]})):
            assert tx.execute("INSERT INTO setting SELECT name, 'x' FROM incoming") == 2
        with pytest.raises(Exception, match="incoming"):
            tx.query("SELECT * FROM incoming")


def test_query_can_not_write(tmp_path: Path) -> None:
    _, database = open_store(tmp_path)
    with pytest.raises(Exception, match="read-only"):
        database.query("WITH a AS (INSERT INTO setting VALUES ('a', '1') RETURNING *) SELECT * FROM a")


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    _, database = open_store(tmp_path)
    with database.transaction() as tx:
        tx.execute("INSERT INTO setting VALUES ('n', '0')")

    def count() -> None:
        for _ in range(25):
            with database.transaction() as tx:
                tx.execute("UPDATE setting SET value = value::INTEGER + 1 WHERE name = 'n'")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.query("SELECT value FROM setting WHERE name = 'n'").to_pylist() == [{"value": "100"}]


def test_a_transaction_inside_another_is_a_mistake_that_is_told(tmp_path: Path) -> None:
    _, database = open_store(tmp_path)
    with (
        database.transaction(),
        pytest.raises(RuntimeError, match="inside a transaction"),
        database.transaction(),
    ):
        pass
    with database.transaction() as tx:  # and the lock is free again
        tx.execute("INSERT INTO setting VALUES ('a', '1')")


def test_read_only_gives_every_row_with_its_schema(tmp_path: Path) -> None:
    _, database = open_store(tmp_path)
    assert read_rows(database, "SELECT range AS n FROM range(200000)").num_rows == 200_000
    empty = read_rows(database, "SELECT 1 AS a, 'x' AS b WHERE false")
    assert empty.column_names == ["a", "b"]
    assert empty.num_rows == 0
    assert read_rows(database, "SELECT $1 + $2 AS n", [1, 2]).to_pylist() == [{"n": 3}]
    assert read_rows(database, "SELECT $a AS n", {"a": 5}).to_pylist() == [{"n": 5}]


@pytest.mark.parametrize(
    "sql", ["SELECT count(*) FROM range(1000000000000) t(a) WHERE hash(a) % 7 = 3", "SELECT sleep_ms(20000)"]
)
def test_a_statement_that_takes_too_long_is_stopped(tmp_path: Path, sql: str) -> None:
    _, database = open_store(tmp_path)
    with pytest.raises(QueryError, match=r"longer than 0\.3 s"):
        read_rows(database, sql, seconds=0.3)


def test_rows_that_stream_are_stopped_by_time_too(tmp_path: Path) -> None:
    _, database = open_store(tmp_path)
    seen: list[int] = []
    with database.stream("SELECT hash(a) FROM range(1000000000000) t(a)", timeout=0.3) as reading:
        with pytest.raises(QueryError, match="longer than"):
            seen.extend(batch.num_rows for batch in reading)
        assert sum(seen) > 0


def test_a_reading_sees_the_store_as_it_was_when_it_began(tmp_path: Path) -> None:
    _, database = open_store(tmp_path)
    with database.transaction() as tx:
        tx.execute("CREATE TABLE many AS SELECT range AS n FROM range(300000)")
    with database.stream("SELECT n FROM many") as reading:
        first = reading.next_batch()
        assert first is not None
        with database.transaction() as tx:
            tx.execute("DELETE FROM many")
        assert first.num_rows + sum(batch.num_rows for batch in reading) == 300_000


def test_a_reading_may_be_closed_from_another_thread(tmp_path: Path) -> None:
    _, database = open_store(tmp_path)
    reading = database.stream("SELECT count(*) FROM range(1000000000000) t(a) WHERE hash(a) % 7 = 3")
    threading.Timer(0.2, reading.close).start()
    with pytest.raises(QueryError, match=r"Interrupted|closed before"), reading:
        reading.next_batch()
    with database.transaction() as tx:  # nothing of it holds the store up
        tx.execute("INSERT INTO setting VALUES ('a', '1')")


ENDLESS = "SELECT count(*) FROM range(1000000000000) t(a) WHERE hash(a) % 7 = 3"


def test_a_reading_closed_just_before_it_begins_never_runs(tmp_path: Path) -> None:
    _, database = open_store(tmp_path)
    reading = database.stream(ENDLESS)
    check = reading._guard.check

    def closed_meanwhile(sql: str) -> None:
        check(sql)
        threading.Thread(target=reading.close).start()
        while not reading._closing:
            time.sleep(0.001)

    with patch.object(reading._guard, "check", closed_meanwhile), pytest.raises(QueryError, match="closed"):
        reading.start()
    database.close()


def test_an_interrupt_that_comes_too_early_is_repeated(tmp_path: Path) -> None:
    _, database = open_store(tmp_path)
    with database.stream("SELECT 1") as reading:
        interrupts: list[float] = []
        reading._busy.acquire()  # DuckDB is about to begin: an interrupt is not heard yet
        cursor = reading._cursor
        reading._cursor = Mock(interrupt=lambda: interrupts.append(1), close=cursor.close)
        closing = threading.Thread(target=reading.close)
        closing.start()
        deadline = time.monotonic() + 10  # before the time limit of the statement interrupts it as well
        try:
            while len(interrupts) < 3:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            assert not reading.closed
        finally:
            reading._busy.release()
        closing.join(10)
        assert reading.closed


def test_closing_the_store_stops_what_is_being_read(tmp_path: Path) -> None:
    _, database = open_store(tmp_path)
    reading = database.stream(ENDLESS)
    stopped = threading.Event()

    def read() -> None:
        with pytest.raises(QueryError), reading:
            reading.next_batch()
        stopped.set()

    threading.Thread(target=read).start()
    time.sleep(0.1)
    database.close()
    assert stopped.wait(10)


def test_closing_the_store_waits_for_statements_of_ours(tmp_path: Path) -> None:
    _, database = open_store(tmp_path)
    root = database._root
    busy = duckdb.ResourceInUseException("connection is busy with another call")
    database._root = Mock(close=Mock(side_effect=[busy, busy, None]))
    database.close()
    assert database._root.close.call_count == 3
    root.close()


def transaction_bytes(database: Database) -> int:
    """What the store holds for transactions that are open, and of changes that one of them may ask for."""
    sql = "SELECT memory_usage_bytes AS bytes FROM duckdb_memory() WHERE tag = 'TRANSACTION'"
    return int(database.query(sql)["bytes"][0].as_py())


@pytest.mark.parametrize("sql", ["SELECT * FROM setting", "FROM range(1000000)"], ids=["read", "left"])
def test_a_closed_reading_leaves_no_transaction_for_which_changes_are_kept(tmp_path: Path, sql: str) -> None:
    _, database = open_store(tmp_path)
    before = transaction_bytes(database)
    with database.stream(sql) as reading:
        reading.next_batch()
    for number in range(20):
        with database.transaction() as tx:
            tx.execute("UPDATE setting SET value = ? WHERE name = 'home'", [str(number)])
    assert transaction_bytes(database) - before < 2**20
    assert reading.closed
