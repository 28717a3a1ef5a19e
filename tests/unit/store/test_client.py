"""The client against a real server: what comes back, and what it says when no engine of ours answers."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from store.core.errors import (
    ConfigError,
    EngineSilent,
    EngineUnavailable,
    NotFoundError,
    QueryError,
    StateError,
)
from store.core.home import Home
from store.core.job_folder import write_json
from store.core.schemas import Person
from store.data import datasets
from store.db.database import Database
from store.http import client as client_module
from store.http.client import Client
from store.jobs import job_queue, metric_points
from tests.unit.on_record import on_record
from tests.unit.store_samples import TOKEN, add_job, open_store, serving, write_dataset
from tunebench.terminal import processes


def refuse(body: dict[str, object], person: Person) -> dict[str, object]:
    raise ConfigError("r is 0.", fix="Give 16.", field="r")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Database, Client]]:
    home, database = open_store(tmp_path_factory.mktemp("client"))
    commands = {"echo": lambda body, person: {"got": body}, "refuse": refuse}
    with serving(home, database, commands):
        client = Client(home)
        yield home, database, client
        client.close()
    database.close()


Served = tuple[Home, Database, Client]


def test_rows_come_back_with_types_and_parameters(served: Served) -> None:
    table = served[2].people.query(
        "SELECT $1::INTEGER AS i, $2 AS s, $3::TIMESTAMP AS t, $4::DOUBLE AS d, [1, NULL] AS l, $5 AS n",
        [np.int64(3), "Ü", datetime(2026, 1, 2, 3), np.float64("nan"), None],
    )
    (row,) = table.to_pylist()
    assert (row["i"], row["s"], row["t"], row["l"], row["n"]) == (
        3,
        "Ü",
        datetime(2026, 1, 2, 3),
        [1, None],
        None,
    )
    assert row["d"] != row["d"]
    assert served[2].people.query("SELECT $a + 1 AS n", {"a": 1}).to_pylist() == [{"n": 2}]


def test_a_result_without_rows_has_its_columns(served: Served) -> None:
    table = served[2].people.query("SELECT job_id, created_at FROM job WHERE false")
    assert (table.num_rows, table.column_names) == (0, ["job_id", "created_at"])


def test_a_large_result_is_whole(served: Served) -> None:
    table = served[2].people.query("SELECT range AS n FROM range(2000000)")
    assert table.num_rows == 2_000_000
    assert table.column("n")[-1].as_py() == 1_999_999


def test_errors_of_the_engine_come_back_as_themselves(served: Served) -> None:
    _, _, client = served
    with pytest.raises(QueryError, match="The statement is a DROP"):
        client.people.query("DROP TABLE job")
    with pytest.raises(ConfigError) as caught:
        client.command("refuse", {})
    assert (caught.value.field, caught.value.fix) == ("r", "Give 16.")
    with pytest.raises(NotFoundError, match="no command 'nope'"):
        client.command("nope", {})
    with pytest.raises(NotFoundError, match="no job 'nope'"):
        client.log("nope")


def test_a_statement_that_fails_after_rows_were_sent_is_an_error(served: Served) -> None:
    sql = "SELECT CASE WHEN a = 3000000 THEN error('boom')::BIGINT ELSE a END AS n FROM range(5000000) t(a)"
    with pytest.raises(QueryError, match="boom"):
        served[2].people.query(sql)


def test_a_parameter_without_a_json_form_is_named(served: Served) -> None:
    with pytest.raises(QueryError, match="A parameter can't be sent: object has no JSON form"):
        served[2].people.query("SELECT ?", [object()])


def test_the_other_routes(served: Served) -> None:
    home, _, client = served
    assert client.command("echo", {"a": home.path}) == {"got": {"a": str(home.path)}}
    assert client.ask("inspect", {"a": 1}, dict) == {"name": "inspect", "body": {"a": 1}}
    assert client.machine().devices == ["cpu"]
    assert client.models() == []
    assert client.health()["home"] == str(home.path)


def test_an_upload_is_sent_from_its_start(served: Served) -> None:
    home, _, client = served
    file = io.BytesIO(b"a,b\n" * 1_000_000)
    file.read()
    name = client.upload("sub/rows & more?.csv", file)
    assert name == "rows & more?.csv"
    assert (home.uploads / name).read_bytes() == file.getvalue()
    with pytest.raises(ConfigError, match="not a file name"):
        client.upload("..", file)


def test_query_functions_work_over_http_as_in_the_engine(served: Served) -> None:
    home, database, client = served
    row = write_dataset(home, ["Paris", "Rome"], ["a", None])
    with database.transaction() as tx:
        datasets.insert_dataset(tx, row)
    here, there = datasets.get_dataset(database, "Capitals"), datasets.get_dataset(client, "Capitals")
    assert here == there
    assert datasets.get_rows(client, there, [1, 0]) == datasets.get_rows(database, here, [1, 0])
    assert (
        metric_points.curve(client, "none", "x").schema == metric_points.curve(database, "none", "x").schema
    )
    assert metric_points.summaries(client, ["none"]) == []


def test_many_threads_share_one_client(served: Served) -> None:
    answers: dict[int, object] = {}
    for number in range(40):
        add_job(served[1], f"job-{number}")

    def ask(number: int) -> None:
        answers[number] = list(job_queue.statuses(served[2], ["nothing", f"job-{number}"]))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: [f"job-{number}"] for number in range(40)}


# -- when no engine answers ---------------------------------------------------------------------------


def test_no_engine_was_ever_started(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable) as caught:
        Client(Home(tmp_path)).people.query("SELECT 1")
    assert caught.value.fix == "Start it with the command: tunebench up"


def announce(home: Home, address: object) -> Home:
    home.create()
    home.token.write_text(TOKEN, encoding="utf-8")
    write_json(home.engine_file, {"address": address, "pid": 1, "version": "x"})
    return home


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "nonsense", "http://[", 7, None])
def test_nobody_listens_at_the_recorded_address(tmp_path: Path, address: object) -> None:
    home = announce(Home(tmp_path), address)
    with pytest.raises(EngineUnavailable, match="No engine runs") as caught:
        Client(home).health()
    assert not isinstance(caught.value, EngineSilent)


@contextmanager
def silent_engine(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    """A process on record as the engine, whose port takes connections and never answers."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        home.create()
        home.token.write_text(TOKEN, encoding="utf-8")
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            with on_record(home.engine_file, address, process.pid):
                yield process
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("halted", "message", "fix"),
    [
        (False, "is running but does not respond", "tunebench down"),
        (True, "stopped by a signal", "kill -CONT {pid}"),
    ],
)
def test_an_engine_that_is_there_and_silent_is_not_said_to_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, halted: bool, message: str, fix: str
) -> None:
    monkeypatch.setattr(client_module, "HEALTH_SECONDS", 0.1)
    home = Home(tmp_path)
    with silent_engine(home) as process:
        if halted:
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        client = Client(home)
        with pytest.raises(EngineSilent, match=f"process {process.pid}.* {message}") as caught:
            client.people.query("SELECT 1")
        assert fix.format(pid=process.pid) in caught.value.fix
        with pytest.raises(EngineSilent, match=str(process.pid)):
            processes.find_running_engine(home)
        began = time.monotonic()  # a page asks many things: the silence is waited for once
        for _ in range(20):
            with pytest.raises(EngineSilent):
                client.people.query("SELECT 1")
        assert time.monotonic() - began < 1
    with pytest.raises(EngineUnavailable, match="No engine runs"):
        Client(home).people.query("SELECT 1")
    assert processes.find_running_engine(home) is None


def test_a_halted_engine_can_be_stopped(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with silent_engine(home) as process:
        process.send_signal(signal.SIGSTOP)
        assert processes.stop_engine(home)
        assert process.poll() is not None
    assert not processes.stop_engine(home)


def test_a_copied_home_folder_leaves_the_originals_servers_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with silent_engine(home) as engine, on_record(home.screens_file, pid=engine.pid):
        copy = Home(shutil.copytree(home.path, tmp_path / "copy"))
        assert not processes.stop_screens(copy)
        assert not processes.stop_engine(copy)
        with pytest.raises(NotFoundError, match="The web interface is not running"):
            processes.find_screens_address(copy)
        assert engine.poll() is None
        assert processes.stop_engine(home)


def test_engine_json_that_is_half_written(tmp_path: Path) -> None:
    home = announce(Home(tmp_path), "x")
    home.engine_file.write_text('{"addr', encoding="utf-8")
    with pytest.raises(EngineUnavailable, match="can't be read"):
        Client(home).health()


def test_the_engine_of_another_home_is_not_ours(served: Served, tmp_path: Path) -> None:
    address = served[2]._connect().base_url
    client = Client(announce(Home(tmp_path), str(address)))
    with pytest.raises(EngineUnavailable, match=f"serves {served[0].path}"):
        client.people.query("SELECT 1")


def test_another_program_on_the_port_never_sees_the_token(tmp_path: Path) -> None:
    seen: list[str | None] = []

    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"name": "something else"}')

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Stranger)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = Client(announce(Home(tmp_path), f"http://127.0.0.1:{server.server_port}"))
    with pytest.raises(EngineUnavailable, match="another program"):
        client.command("launch", {})
    server.shutdown()
    server.server_close()
    assert seen == [None]


def test_a_client_follows_its_engine_through_a_restart(tmp_path: Path) -> None:
    home, database = open_store(tmp_path)
    client = Client(home)
    with serving(home, database):
        assert client.people.query("SELECT 1 AS n").to_pylist() == [{"n": 1}]
    with pytest.raises(EngineUnavailable):
        client.people.query("SELECT 1")
    with serving(home, database):
        assert client.people.query("SELECT 2 AS n").to_pylist() == [{"n": 2}]
    database.close()


def test_a_token_that_is_not_the_engines(tmp_path: Path) -> None:
    home, database = open_store(tmp_path)
    with serving(home, database):
        home.token.write_text("another", encoding="utf-8")
        with pytest.raises(EngineUnavailable, match="refuses the token"):
            Client(home).people.query("SELECT 1")
    database.close()


def test_a_proxy_of_the_environment_is_not_asked(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert Client(served[0]).people.query("SELECT 1 AS n").to_pylist() == [{"n": 1}]


def test_a_damaged_record_of_the_engine_is_named(tmp_path: Path) -> None:
    home = Home(tmp_path).create()
    for text in ("{", "[]", '{"address": "x"}'):
        home.engine_file.write_text(text)
        with pytest.raises(StateError, match="damaged") as caught:
            processes.stop_engine(home)
        assert "Remove the file" in caught.value.fix
