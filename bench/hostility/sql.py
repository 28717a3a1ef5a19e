"""SQL that means harm, sent to a real engine as people send it: what grows, what is deep, what reads files,
what writes, what changes the process. Made from a seed: templates with functions, sizes and nestings drawn.

Every statement is to be answered by rows or by a refusal in one sentence, within its time. Meanwhile a second
thread asks what screens ask: their 95th percentile is printed, with that of the same questions before, and is
to stay under 100 ms. The engine's memory is looked at all the while, and at the end it is asked to stop with
slow statements under way.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from bench.hostility import Attempt
from store.contract.errors import BusyError, EngineUnavailable, TunebenchError
from store.contract.home import Home
from store.http.client import Client
from store.queries import jobs
from store.queries.runs import runs

LIMIT_SECONDS = 30.0
LATE_SECONDS = 15.0  # beside the limit: a place to wait for, a process to start, a busy machine
GROWN_BYTES = 300 * 2**20  # of the engine itself
SCREENS_MS = 100.0
STOP_SECONDS = 5.0
GENERATED = 330
AT_ONCE = 4  # statements that are sent at the same time
SECRET = "the-token-that-nobody-may-read"

Made = tuple[str, str]  # a name and a statement


def attempts(seed: int, folder: Path) -> list[Attempt]:
    """Every statement and what came of it, then what held for all of them."""
    home = Home(folder / "home").create()
    _fill(home)
    statements = _statements(random.Random(seed), home)
    process = start_engine(home)
    client = Client(home)
    wait_for(client)
    before = _state(client)
    watch = _Watch(client, process.pid)
    watch.look_before()
    watch.start()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        made = list(pool.map(lambda pair: _try(client, *pair), statements))
    watch.ended.set()
    watch.join()
    changed = _state(client) != before
    made += [
        Attempt("the store and its files afterwards", "something was written" if changed else ""),
        *watch.attempts(),
        _stop(process, client),
    ]
    return made


# -- the statements -----------------------------------------------------------------------------------


def _statements(draw: random.Random, home: Home) -> list[Made]:
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


# -- what came of them --------------------------------------------------------------------------------


def _try(client: Client, name: str, sql: str) -> Attempt:
    """Send it as the API takes it; a place is waited for as long as it takes to get one."""
    label = f"{name} ({' '.join(sql[:90].encode('utf-8', 'replace').decode().split())})"
    while True:
        began = time.monotonic()
        try:
            rows = client.people.query(sql)
        except BusyError:
            time.sleep(0.5)
            continue
        except EngineUnavailable as error:
            return Attempt(label, f"the engine did not answer: {error}")
        except TunebenchError as error:
            return Attempt(label, _fault(str(error), time.monotonic() - began))
        except (UnicodeEncodeError, ValueError) as error:
            return Attempt(label, f"the client raised {type(error).__name__}")
        leaked = SECRET in str(rows.slice(0, 100).to_pydict())
        return Attempt(label, "a file was read" if leaked else _fault("", time.monotonic() - began))


def _fault(message: str, seconds: float) -> str:
    if seconds > LIMIT_SECONDS + LATE_SECONDS:
        return f"it took {seconds:.1f} s"
    if "Traceback" in message or "engine failed" in message:
        return f"a raw error: {message[:200]}"
    if "\n" in message or SECRET in message:
        return f"no plain sentence: {message[:200]!r}"
    return ""


class _Watch(threading.Thread):
    """Asks as a screen does, and looks at the engine's memory."""

    def __init__(self, client: Client, pid: int) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self._client, self._engine = client, psutil.Process(pid)
        self._milliseconds: list[float] = []
        self._before: list[float] = []
        self._first = self._most = self._engine.memory_info().rss
        self._problem = ""

    def look_before(self) -> None:
        """What the questions take on this machine without any statement."""
        for _ in range(60):
            self._before.append(self._look())
            time.sleep(0.05)

    def _look(self) -> float:
        """Milliseconds of a question."""
        began = time.perf_counter()
        try:
            runs.list_runs(self._client)
            jobs.recent_jobs(self._client, limit=20)
        except TunebenchError as error:
            self._problem = f"a question of the screens failed: {error}"
        return (time.perf_counter() - began) * 1000 / 2

    def run(self) -> None:
        while not self.ended.wait(0.1):
            self._milliseconds.append(self._look())
            self._most = max(self._most, self._engine.memory_info().rss)

    def attempts(self) -> list[Attempt]:
        """What held for all statements together."""
        p50, p95 = np.percentile(self._milliseconds, [50, 95])
        p50_before, p95_before = np.percentile(self._before, [50, 95])
        grown = self._most - self._first
        print(
            f"screens' questions before: p50 {p50_before:.1f} ms, p95 {p95_before:.1f} ms;"
            f" meanwhile: p50 {p50:.1f} ms, p95 {p95:.1f} ms, n {len(self._milliseconds)};"
            f" the engine grew by {grown / 2**20:.0f} MiB"
        )
        slow = f"{p95:.0f} ms at the 95th percentile" if p95 >= SCREENS_MS else ""
        large = f"it grew by {grown / 2**20:.0f} MiB" if grown > GROWN_BYTES else ""
        return [
            Attempt("the screens' questions meanwhile", self._problem or slow),
            Attempt("the engine's memory", large),
        ]


# -- the engine ---------------------------------------------------------------------------------------


def _fill(home: Home) -> None:
    home.token.write_text(SECRET, encoding="utf-8")
    (home.datasets / "f").mkdir()
    pq.write_table(pa.table({"n": [1, 2, 3]}), home.datasets / "f" / "rows.parquet")
    pq.write_table(pa.table({"secret": [SECRET]}), home.path / "outside.parquet")


def start_engine(home: Home) -> subprocess.Popen[bytes]:
    """A real engine over `home`, with its log in logs/engine.log."""
    environment = {**os.environ, "TUNEBENCH_HOME": str(home.path), "TUNEBENCH_NO_SAMPLE": "1"}
    root = Path(__file__).resolve().parents[2]
    with open(home.logs / "engine.log", "wb") as log:
        command = [sys.executable, "-m", "engine"]
        return subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log)


def wait_for(client: Client) -> None:
    """Return when the engine answers."""
    for _ in range(600):
        try:
            client.health()
            return
        except EngineUnavailable:
            time.sleep(0.1)
    raise SystemExit("The engine does not answer.")


def _state(client: Client) -> object:
    tables = "SELECT table_name, sql FROM duckdb_tables() ORDER BY 1"
    settings = client.query("SELECT name, value FROM setting ORDER BY 1").to_pylist()
    folders = (client.home.jobs, client.home.datasets, client.home.exports, client.home.uploads)
    files = sorted(str(path) for folder in folders for path in folder.rglob("*"))
    return client.query(tables).to_pylist(), settings, files


def _stop(process: subprocess.Popen[bytes], client: Client) -> Attempt:
    """SIGTERM with statements under way: engine and their processes are gone soon."""
    name = "SIGTERM with slow statements under way"
    slow = "SELECT count(*) FROM range(1000000000000) t(a) WHERE hash(a) % 7 = 3"
    threads = [threading.Thread(target=_try, args=(client, "slow", slow), daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(4)
    children = psutil.Process(process.pid).children(recursive=True)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        return Attempt(name, "the engine did not end within 60 s")
    seconds = time.monotonic() - began
    print(f"SIGTERM with slow statements under way: {seconds:.1f} s")
    _, left = psutil.wait_procs([c for c in children if "statement_process" in _line(c)], timeout=2)
    if left:
        return Attempt(name, f"{len(left)} processes were left")
    return Attempt(name, f"it took {seconds:.1f} s" if seconds > STOP_SECONDS else "")


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
