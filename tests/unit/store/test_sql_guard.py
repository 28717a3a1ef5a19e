"""Hostile SQL: nothing but one reading statement gets through, and nothing is written, changed or leaked."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store.core.errors import QueryError
from store.core.home import Home
from store.db.database import Database
from tests.unit.store_samples import add_job, open_store, read_rows, read_written


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Database]]:
    home, database = open_store(tmp_path_factory.mktemp("guard"))
    add_job(database, "a")
    (home.datasets / "f").mkdir()
    pq.write_table(pa.table({"n": [1, 2, 3]}), home.datasets / "f" / "rows.parquet")
    home.token.write_text("the-secret-token", encoding="utf-8")
    (home.path / "outside.parquet").write_bytes((home.datasets / "f" / "rows.parquet").read_bytes())
    (home.jobs / "a").mkdir()
    (home.jobs / "a" / "log.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    yield home, database
    database.close()


WRITES = [
    "INSERT INTO job (job_id) VALUES ('x')",
    "UPDATE job SET status = 'finished'",
    "DELETE FROM job",
    "TRUNCATE job",
    "DROP TABLE job",
    "DROP VIEW run_overview",
    "ALTER TABLE job ADD COLUMN x INTEGER",
    "CREATE TABLE x (a INTEGER)",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE VIEW x AS SELECT 1",
    "CREATE MACRO f(a) AS a",
    "CREATE SECRET s (TYPE s3)",
    "COMMENT ON TABLE job IS 'x'",
    "MERGE INTO job USING (SELECT 'a' AS i) s ON job.job_id = s.i WHEN MATCHED THEN DELETE",
    "WITH a AS (INSERT INTO setting VALUES ('x', 'y') RETURNING *) SELECT * FROM a",
    "WITH a AS (DELETE FROM job RETURNING *) SELECT * FROM a",
    "WITH a AS (UPDATE job SET status = 'x' RETURNING *) SELECT * FROM a",
    "SELECT * FROM (WITH a AS (INSERT INTO setting VALUES ('x', 'y') RETURNING *) SELECT * FROM a)",
    "EXPLAIN ANALYZE INSERT INTO setting VALUES ('x', 'y')",
    "EXPLAIN ANALYZE DELETE FROM job",
    "SELECT nextval('run_number')",
    "SELECT setval('run_number', 7)",
    "SELECT list_transform([1], lambda x: nextval('run_number'))",
    "COPY job TO '{home}/jobs/out.parquet'",
    "COPY (SELECT 1) TO '{home}/datasets/out.parquet'",
    "COPY job FROM '{home}/jobs/a/log.csv'",
    "EXPORT DATABASE '{home}/jobs/export'",
    "IMPORT DATABASE '{home}/jobs/export'",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
]
COMMANDS = [
    "PRAGMA table_info('job')",
    "PRAGMA enable_profiling",
    "CALL pragma_version()",
    "CALL enable_logging()",
    "SET threads = 1",
    "SET VARIABLE x = 1",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "USE main",
    "ATTACH ':memory:' AS x",
    "ATTACH '{home}/jobs/x.duckdb' AS x",
    "DETACH tunebench",
    "LOAD httpfs",
    "INSTALL httpfs",
    "CHECKPOINT",
    "UPDATE EXTENSIONS",
    "FORCE CHECKPOINT",
    "VACUUM",
    "ANALYZE",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "COMMIT; DROP TABLE job",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE job",
    "SELECT 1; COMMIT; INSERT INTO setting VALUES ('x', 'y')",
    "PIVOT job ON status USING count(*)",
    "",
    "   -- only a comment",
    ";;",
    "SELEC 1",
    "SELECT",
    "\x00",
    "SELECT '\ud800'",
]
FUNCTIONS = [
    "SELECT * FROM read_blob('{home}/tunebench.duckdb')",
    "SELECT * FROM main.READ_BLOB('{home}/tunebench.duckdb')",
    "SELECT * FROM system.main.read_blob('{home}/tunebench.duckdb')",
    "SELECT * FROM \"read_blob\"('{home}/tunebench.duckdb')",
    "SELECT (SELECT count(*) FROM read_blob('{home}/tunebench.duckdb'))",
    "SELECT 1 WHERE EXISTS (SELECT * FROM read_text('{home}/tunebench.duckdb.wal'))",
    "WITH a AS (SELECT * FROM read_blob('{home}/tunebench.duckdb')) SELECT * FROM a",
    "SELECT * FROM job, LATERAL (SELECT * FROM read_blob(job_id))",
    "SELECT 1 UNION ALL SELECT size FROM read_blob('{home}/tunebench.duckdb')",
    "SELECT * FROM read_csv('{home}/tunebench.duckdb')",
    "SELECT * FROM sniff_csv('{home}/tunebench.duckdb')",
    "SELECT * FROM read_duckdb('{home}/tunebench.duckdb')",
    "SELECT * FROM query('SELECT * FROM read_blob(''{home}/tunebench.duckdb'')')",
    "SELECT * FROM query_table('job')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT * FROM enable_profiling(save_location := '{home}/jobs/profile')",
    "SELECT * FROM disable_profiling()",
    "SELECT * FROM enable_logging(storage := 'file')",
    "SELECT * FROM truncate_duckdb_logs()",
    "SELECT * FROM checkpoint()",
    "SELECT * FROM force_checkpoint()",
    "SELECT * FROM register_external_resource('a', 'b')",
    "SELECT * FROM create_external_resource('a')",
    "SELECT * FROM add_grammar_extension('a')",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM pandas_scan(1)",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_settings()",
    "SELECT write_log('x')",
    "SELECT getenv('HOME')",
]
FILES = [
    "SELECT * FROM read_parquet('{home}/outside.parquet')",
    "SELECT * FROM '{home}/outside.parquet'",
    "SELECT * FROM read_parquet('{home}/datasets/../outside.parquet')",
    "SELECT * FROM read_parquet('{home}/*.parquet')",
    "SELECT * FROM read_parquet(['{home}/datasets/f/rows.parquet', '{home}/outside.parquet'])",
    "SELECT * FROM read_parquet('{home}/tunebench.duckdb')",
    "SELECT * FROM parquet_metadata('{home}/outside.parquet')",
    "SELECT * FROM parquet_schema('{home}/token')",
    "SELECT * FROM '{home}/tunebench.duckdb'",
    "SELECT * FROM '{home}/token'",
    "SELECT * FROM glob('{home}/*')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM read_parquet('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM read_parquet('https://example.com/x.parquet')",
    "SELECT * FROM 's3://bucket/x.parquet'",
    "SELECT * FROM read_parquet('relative.parquet')",
    "SELECT * FROM database",  # a variable of this process
]


@pytest.mark.parametrize("sql", WRITES + COMMANDS + FUNCTIONS + FILES)
def test_is_refused_and_leaves_everything_as_it_was(store: tuple[Home, Database], sql: str) -> None:
    home, database = store
    before = _state(home, database)
    with pytest.raises(QueryError) as caught:
        read_rows(database, sql.replace("{home}", str(home.path)))
    assert caught.value.message
    assert "the-secret-token" not in str(caught.value)
    assert _state(home, database) == before


def test_nor_does_any_of_it_get_through_in_a_process_of_its_own(store: tuple[Home, Database]) -> None:
    home, database = store
    before = _state(home, database)
    for sql in WRITES + COMMANDS + FUNCTIONS + FILES:
        with pytest.raises(QueryError) as caught:
            read_written(database.written(sql.replace("{home}", str(home.path))))
        assert "the-secret-token" not in str(caught.value), sql
    assert _state(home, database) == before


def _state(home: Home, database: Database) -> object:
    tables = database.query("SELECT table_name, estimated_size FROM duckdb_tables() ORDER BY 1").to_pylist()
    jobs = database.query("SELECT * FROM job").to_pylist()
    settings = database.query("SELECT name, value FROM duckdb_settings() ORDER BY 1").to_pylist()
    used = database.query("SELECT last_value FROM duckdb_sequences()").to_pylist()
    files = sorted(
        str(path)
        for path in home.path.rglob("*")
        if ".wal" not in path.name and "statements" not in path.parts
    )
    return tables, jobs, settings, used, files


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT 1", 1),
        ("select 1;", 1),
        ("SELECT 1; -- and a comment", 1),
        ("/* a comment; with a semicolon */ SELECT 1", 1),
        ("FROM job", 1),
        ("TABLE job", 1),
        ("VALUES (1), (2)", 2),
        ("WITH a AS (SELECT 1 UNION ALL SELECT 2) SELECT * FROM a", 2),
        ("WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT * FROM t", 5),
        ("SELECT * FROM run_overview", 1),
        ("DESCRIBE setting", 2),
        ("SUMMARIZE setting", 2),
        ("SELECT * FROM duckdb_columns() WHERE table_name = 'setting'", 2),
        ("SELECT * FROM '{home}/datasets/f/rows.parquet'", 3),
        ("SELECT * FROM read_parquet('{home}/datasets/*/rows.parquet')", 3),
        ("SELECT * FROM glob('{home}/datasets/f/*')", 1),
        ("SELECT unnest([1, 2, 3])", 3),
        ("SELECT * FROM generate_series(1, 4)", 4),
        ("SELECT histogram(range) FROM range(10)", 1),
        ("SELECT count(*) FROM range(1000000) a, generate_series(0, 4) b, unnest(range(3))", 1),
        ("SELECT lpad(name, 20, ' '), format('{:,}', 1000000), printf('%.3f', 1.5) FROM setting LIMIT 1", 1),
        ("SELECT 'DROP TABLE job; read_blob(''x'')' AS text", 1),
        ('SELECT \'{"function_name":"read_blob"}\' AS text, 1 AS """function_name"":""read_blob"', 1),
    ],
)
def test_what_only_reads_runs(store: tuple[Home, Database], sql: str, rows: int) -> None:
    home, database = store
    assert read_rows(database, sql.replace("{home}", str(home.path))).num_rows == rows


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DROP TABLE job", "The statement is a DROP. /sql only reads"),
        ("INSERT INTO setting VALUES ('a', 'b')", "The statement is an INSERT."),
        ("SELECT 1; SELECT 2", "There are 2 statements. Send them one by one."),
        ("", "The statement is empty."),
        ("UPDATE EXTENSIONS", "The statement is none that reads. /sql only reads"),
        ("SELECT " + "a." * 20_000 + "a", "A name in the statement has more than 16 parts."),
        (" UNION ".join(["SELECT 1"] * 20_000), "has more than 200 UNION, EXCEPT or INTERSECT."),
        ("SELECT " + "CASE WHEN 1 THEN " * 300 + "1" + " END" * 300, "nested deeper than 200 brackets."),
        ("SELECT * FROM read_blob('x')", "The function read_blob can't be used here."),
        ("SELECT nam FROM setting", 'Referenced column "nam" not found'),
        ("SELECT * FROM jobs", "Table with name jobs does not exist! Did you mean"),
        ("SELECT length(rpad('a', 2000000000, 'b'))", "rpad makes more than 10,000 characters or entries."),
        ("FROM range(length(repeat('x', 1000000000)))", "repeat makes more than 10,000"),
        ("SELECT unnest(range(1000000000))", "range makes more than"),
        ("WITH a AS (SELECT 5 AS n) SELECT len(range(n)) FROM a", "range needs its size as a plain number"),
        ("SELECT ?", "Values were not provided for the following parameters: 1"),
        ("WITH a AS (DELETE FROM job RETURNING *) SELECT * FROM a", "contains a DELETE, which writes"),
    ],
)
def test_errors_say_what_is_wrong(store: tuple[Home, Database], sql: str, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        read_rows(store[1], sql)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_statement_nested_without_end_is_refused_not_a_crash(store: tuple[Home, Database]) -> None:
    with pytest.raises(QueryError):
        read_rows(store[1], "SELECT " + "(" * 5000 + "1" + ")" * 5000)
    assert read_rows(store[1], "SELECT 1").num_rows == 1


def test_only_the_read_only_transaction_would_also_stop_a_write(store: tuple[Home, Database]) -> None:
    """The second wall holds where the first one is taken away."""
    home, database = store
    with pytest.raises(Exception, match="read-only"):
        database.query("WITH a AS (DELETE FROM job RETURNING *) SELECT * FROM a")
    with pytest.raises(Exception, match="Permission"):  # and the third
        database.query(f"SELECT * FROM read_text('{home.token}')")
