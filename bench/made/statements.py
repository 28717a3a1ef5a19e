"""Malicious SQL statements, generated from a seed.

They grow, nest deeply, read files, write, or change the process; templates with random functions, sizes
and nestings.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from store.core.home import Home

GENERATED = 330
Made = tuple[str, str]  # name and statement


def statements(draw: random.Random, home: Home) -> list[Made]:
    """Return statements of all kinds, in random order."""
    kinds: list[tuple[str, int, Callable[[random.Random, Home], str]]] = [
        ("grows", 60, _grows),
        ("doubles", 15, _doubles),
        ("deep", 60, _deep),
        ("slow", 9, _slow),
        ("reads a file", 70, _reads_a_file),
        ("writes", 55, _writes),
        ("changes the process", 60, _changes),
        ("noise", 40, _noise),
    ]
    made = [(f"{name} {i}", make(draw, home)) for name, count, make in kinds for i in range(count)]
    assert len(made) >= GENERATED
    draw.shuffle(made)
    return made


def _grows(draw: random.Random, home: Home) -> str:
    text = draw.choice(["repeat('a', 9999)", "'aaaaaaaaaa'", "rpad('a', 9999, 'b')", "string_agg(name, '')"])
    for _ in range(draw.randint(2, 7)):
        old, new = draw.choice("abc"), draw.choice("abc")
        text = draw.choice(
            [
                f"replace({text}, '{old}', repeat('{new}', {draw.choice([10, 100, 9999])}))",
                f"regexp_replace({text}, '{old}', repeat('{new}', 99), 'g')",
                f"{text} || {text}",
                f"concat({', '.join([text] * 3)})",
                f"list_reduce(list_transform(range(100), lambda x: {text}), lambda x, y: x || y)",
                f"array_to_string(list_transform(range(9999), lambda x: {text}), '')",
                f"hex({text})",
                f"printf('%s%s', {text}, {text})",
            ]
        )
        if len(text) > 20_000:
            break
    return draw.choice(
        [
            f"SELECT length({text}) FROM setting",
            f"SELECT length(string_agg({text}, '')) FROM range({10 ** draw.randint(3, 9)}), setting",
            f"SELECT len(list({text})) FROM range({10 ** draw.randint(5, 10)}), setting GROUP BY ALL",
            f"SELECT {text} FROM setting",
            "WITH RECURSIVE t(x, n) AS (SELECT 'ab', 0 UNION ALL SELECT x || x, n + 1 FROM t WHERE n < 60)"
            " SELECT max(length(x)) FROM t",
        ]
    )


def _doubles(draw: random.Random, home: Home) -> str:
    joined = draw.choice(["UNION ALL SELECT * FROM", "UNION SELECT * FROM", "CROSS JOIN", "NATURAL JOIN"])
    parts = ", ".join(
        f"c{i} AS {draw.choice(['', 'MATERIALIZED '])}(SELECT a.* FROM c{i - 1} a {joined} c{i - 1} b)"
        for i in range(1, draw.randint(15, 80))
    )
    last = parts.count(" AS ") - 1
    return f"WITH c0 AS (SELECT 1 AS a), {parts} SELECT count(*) FROM c{max(1, min(last, 14))}"


def _deep(draw: random.Random, home: Home) -> str:
    many = draw.choice([150, 400, 900, 4_000, 20_000])
    return draw.choice(
        [
            "SELECT " + "a." * many + "a",
            "SELECT * FROM " + "a." * many + "a",
            draw.choice([" UNION ", " UNION ALL ", " EXCEPT ", " INTERSECT "]).join(["SELECT 1"] * many),
            "SELECT " + "(" * many + "1" + ")" * many,
            "SELECT " + "[" * many + "1" + "]" * many,
            "SELECT " + "NOT " * many + "true",
            "SELECT " + "- " * many + "1",
            "SELECT " + " + ".join(["1"] * many),
            "SELECT " + " AND ".join(["true"] * many),
            "SELECT 1" + "::INTEGER" * many,
            "SELECT " + "CASE WHEN true THEN " * many + "1" + " END" * many,
            "SELECT " + "abs(" * many + "1" + ")" * many,
            "SELECT * FROM " + "(SELECT * FROM " * many + "setting" + ")" * many,
            "SELECT * FROM setting " + " ".join(f"JOIN setting s{i} USING (name)" for i in range(many)),
            "WITH " + ", ".join(f"c{i} AS (SELECT {i})" for i in range(many)) + " SELECT 1",
            "SELECT " + ", ".join("*" for _ in range(many)) + " FROM setting",
            "SELECT x" + "[1]" * many + " FROM (SELECT [1] AS x)",
            "SELECT 1 WHERE 1 IN (" + ", ".join(map(str, range(many))) + ")",
            "SELECT '" + "x" * many * 10 + "'",
            "SELECT * FROM setting WHERE " + " OR ".join(f"name LIKE '%{i}%'" for i in range(many)),
            "SELECT struct_pack(" + ", ".join(f"a{i} := {i}" for i in range(many)) + ")",
            "SELECT lambda x: " * many + "1",
            "VALUES " + ", ".join(["(1)"] * many),
        ]
    )


def _slow(draw: random.Random, home: Home) -> str:
    return draw.choice(
        [
            "SELECT count(*) FROM range(1000000000000) t(a) WHERE hash(a) % 7 = 3",
            "SELECT count(*) FROM range(100000) a, range(100000) b, range(100000) c"
            " WHERE hash(a.range + b.range + c.range) % 7 = 3",
            "SELECT max(h) FROM (SELECT hash(range) AS h FROM range(3000000000) ORDER BY h LIMIT 9)",
            "SELECT sleep_ms(60000)",
            "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t",
        ]
    )


def _reads_a_file(draw: random.Random, home: Home) -> str:
    file = draw.choice(
        [
            f"{home.path}/token",
            f"{home.path}/tunebench.duckdb",
            f"{home.path}/tunebench.duckdb.wal",
            f"{home.path}/cache/statements/*/*",
            f"{home.datasets}/../token",
            f"{home.path}/outside.parquet",
            f"{home.datasets}/../outside.parquet",
            *("/etc/passwd", "/proc/self/environ", "/proc/self/mem", "/dev/zero", "file:///etc/passwd", "*"),
        ]
    )
    reader = draw.choice(
        [
            *("read_blob", "read_text", "read_csv", "read_csv_auto", "sniff_csv", "read_json", "read_ndjson"),
            *("read_json_auto", "read_parquet", "parquet_scan", "parquet_metadata", "parquet_schema", "glob"),
            *("parquet_kv_metadata", "read_duckdb", "main.read_text", '"read_text"', "READ_TEXT", "query"),
        ]
    )
    call = draw.choice([f"{reader}('{file}')", f"{reader}(['{file}'])", f"'{file}'"])
    return draw.choice(
        [
            f"SELECT * FROM {call}",
            f"WITH a AS (SELECT * FROM {call}) SELECT * FROM a",
            f"SELECT (SELECT count(*) FROM {call})",
            f"SELECT 1 WHERE EXISTS (SELECT * FROM {call})",
            f"SELECT 1 UNION ALL SELECT 1 FROM {call}",
            f"SELECT * FROM setting, LATERAL (SELECT * FROM {call})",
            f"SUMMARIZE SELECT * FROM {call}",
            f"DESCRIBE SELECT * FROM {call}",
        ]
    )


def _writes(draw: random.Random, home: Home) -> str:
    write = draw.choice(
        [
            "INSERT INTO setting VALUES ('x', 'y')",
            "DELETE FROM setting",
            "UPDATE setting SET value = 'x'",
            "TRUNCATE setting",
            "MERGE INTO setting USING (SELECT 'home' AS n) s ON name = s.n WHEN MATCHED THEN DELETE",
        ]
    )
    return draw.choice(
        [
            write,
            f"WITH a AS ({write} RETURNING *) SELECT * FROM a",
            f"SELECT * FROM (WITH a AS ({write} RETURNING *) SELECT * FROM a)",
            f"EXPLAIN ANALYZE {write}",
            f"SELECT 1; {write}",
            f"/* SELECT */ {write} --",
            f"COMMIT; {write}",
            f"PREPARE p AS {write}",
            "DROP TABLE setting",
            "CREATE TABLE x AS SELECT 1",
            "CREATE OR REPLACE VIEW run_overview AS SELECT 1",
            "CREATE TEMP MACRO f() AS 1",
            f"COPY setting TO '{home.jobs}/x.parquet'",
            f"COPY (SELECT 1) TO '{home.datasets}/x.csv'",
            f"EXPORT DATABASE '{home.jobs}/x'",
            "SELECT nextval('run_number')",
        ]
    )


def _changes(draw: random.Random, home: Home) -> str:
    return draw.choice(
        [
            "UPDATE EXTENSIONS",
            f"SET {draw.choice(['threads', 'memory_limit', 'temp_directory', 'home_directory'])} = '1'",
            "SET GLOBAL enable_external_access = true",
            "RESET lock_configuration",
            f"PRAGMA {draw.choice(['enable_profiling', 'database_list', 'force_checkpoint', 'version'])}",
            f"{draw.choice(['INSTALL', 'LOAD', 'FORCE INSTALL'])} {draw.choice(['httpfs', 'postgres', 'x'])}",
            f"ATTACH '{home.jobs}/x.duckdb' AS x",
            "DETACH tunebench",
            f"{draw.choice(['CHECKPOINT', 'FORCE CHECKPOINT', 'VACUUM', 'ANALYZE', 'BEGIN', 'ABORT'])}",
            "USE main",
            "SET VARIABLE a = 1",
            "CALL enable_logging()",
            "DEALLOCATE ALL",
            f"SELECT * FROM enable_profiling(save_location := '{home.jobs}/p')",
            f"SELECT * FROM {draw.choice(['disable_logging', 'force_checkpoint', 'truncate_duckdb_logs'])}()",
            "SELECT * FROM duckdb_secrets()",
            "SELECT * FROM duckdb_settings()",
            f"SELECT {draw.choice(['write_log', 'getenv', 'setseed', 'current_setting'])}('HOME')",
            "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
            "SELECT * FROM query('DROP TABLE setting')",
            "SELECT * FROM register_external_resource('a', 'b')",
            "SELECT list_transform([1], lambda x: nextval('run_number'))",
        ]
    )


def _noise(draw: random.Random, home: Home) -> str:
    words = [
        *(
            "SELECT",
            "FROM",
            "setting",
            "WHERE",
            "(",
            ")",
            "'",
            '"',
            ",",
            "*",
            "1",
            "--",
            "/*",
            "*/",
            ";",
            "$$",
        ),
        *(
            "WITH",
            "AS",
            "UNION",
            "LATERAL",
            "::",
            "[",
            "]",
            "{",
            "}",
            "\x00",
            "\ud800",
            "é",
            "\n",
            "NULL",
            "?",
            "$1",
        ),
        *(
            "PIVOT",
            "QUALIFY",
            "OVER",
            "TABLE",
            "VALUES",
            "EXPLAIN",
            "read_parquet",
            ":=",
            "->",
            "lambda",
            "\\",
        ),
    ]
    return " ".join(draw.choice(words) for _ in range(draw.choice([1, 5, 30, 300, 9_000])))
