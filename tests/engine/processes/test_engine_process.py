"""`python -m engine` as a process: one a home folder, its files, its port, its end."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from engine.__main__ import listen
from store.core.errors import EngineUnavailable
from store.core.home import Home
from store.core.job_folder import read_json
from store.data import datasets
from store.http.client import IDLE_SECONDS, Client
from store.jobs import job_queue

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 60


def start(home: Path, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TUNEBENCH_NO_SAMPLE": "1"}
    command = [sys.executable, "-m", "engine", "--home", str(home), *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)


def wait_until_ready(home: Path, process: subprocess.Popen[str]) -> Client:
    client = Client(Home(home))
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            client.health()
            return client
        except EngineUnavailable:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)


def wait_for(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def address_of(home: Path) -> tuple[str, int]:
    return "127.0.0.1", int(read_json(home / "engine.json")["address"].rpartition(":")[2])


def token(home: Path) -> str:
    return (home / "token").read_text().strip()


def tunebench(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the command line, to its end."""
    command = [sys.executable, "-m", "tunebench.cli", *arguments]
    environment = {**os.environ, "TUNEBENCH_HOME": str(home), "TUNEBENCH_NO_SAMPLE": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    home = tmp_path / "home"
    process = start(home)
    yield home, process
    process.kill()
    process.wait()


def test_it_serves_imports_and_stops_when_asked(engine: tuple[Path, subprocess.Popen[str]]) -> None:
    home, process = engine
    client = wait_until_ready(home, process)
    assert stat.S_IMODE((home / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "engine.json").stat().st_mode) == 0o600
    assert read_json(home / "engine.json")["pid"] == process.pid
    assert job_queue.recent_jobs(client) == []  # nothing is prepared where that was switched off
    maps = Path(f"/proc/{process.pid}/maps")
    assert not maps.exists() or "libtorch" not in maps.read_text()

    (home / "uploads" / "pairs.csv").write_text("question,answer\nWhat?,This.\nWho?,She.\n")
    body = {"name": "Pairs", "source": {"upload": "pairs.csv"}}
    job_id = client.command("import_dataset", body)["job_id"]
    deadline = time.monotonic() + SECONDS
    while job_queue.get_job(client, job_id).status != "finished":
        assert time.monotonic() < deadline, job_queue.get_job(client, job_id)
        time.sleep(0.1)
    assert datasets.get_dataset(client, "Pairs").row_count == 2

    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert not (home / "engine.json").exists()
    assert not (home / "tunebench.duckdb.wal").exists()  # the store was closed in order


def test_an_idle_connection_outlasts_its_use_by_clients(engine: tuple[Path, subprocess.Popen[str]]) -> None:
    """A machine that stood still may send the next request late, on a connection that should be there."""
    home, process = engine
    wait_until_ready(home, process)
    connection = http.client.HTTPConnection(*address_of(home), timeout=SECONDS)
    for idle in (2 * IDLE_SECONDS, 0):
        connection.request("GET", "/health")
        used = connection.sock
        assert connection.getresponse().read()
        time.sleep(idle)
    assert connection.sock is used  # http.client opens a new one where it was closed
    connection.close()


def test_a_second_engine_names_the_first(engine: tuple[Path, subprocess.Popen[str]]) -> None:
    home, process = engine
    wait_until_ready(home, process)
    second = start(home)
    stderr = second.communicate(timeout=SECONDS)[1]
    assert second.returncode == 3
    record = read_json(home / "engine.json")
    assert record["address"] in stderr.splitlines()[-1]
    # where another engine stands on record, as in a folder that was put in place of this one, that stays
    (home / "engine.json").write_text(json.dumps({**record, "pid": record["pid"] + 1}))
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert read_json(home / "engine.json")["pid"] == record["pid"] + 1


def test_an_engine_that_was_killed_blocks_nobody(engine: tuple[Path, subprocess.Popen[str]]) -> None:
    home, process = engine
    wait_until_ready(home, process)
    token = (home / "token").read_text()
    process.kill()
    process.wait()
    third = start(home)
    wait_until_ready(home, third)
    assert (home / "token").read_text() == token
    third.send_signal(signal.SIGINT)
    assert third.wait(20) == 0


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        process = start(tmp_path / "home", "--port", str(port))
        stderr = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 4
    assert f"Port {port} can't be used" in stderr.splitlines()[-1]


def test_a_killed_engine_leaves_nothing_half_made_after_the_next_start(
    engine: tuple[Path, subprocess.Popen[str]],
) -> None:
    home, process = engine
    client = wait_until_ready(home, process)
    with socket.create_connection(address_of(home)) as connection:
        head = f"PUT /uploads/cut.csv HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token(home)}\r\n"
        connection.sendall(f"{head}Content-Length: 100000000\r\n\r\n".encode() + b"x" * 9_000_000)
        wait_for(lambda: list((home / "uploads").iterdir()))
        process.kill()
        process.wait()
    assert [path.name[:8] for path in (home / "uploads").iterdir()] == [".upload-"]
    (home / "token").chmod(0o644)
    (home / f".engine.json.{process.pid}").write_text("{")
    another = start(home)
    wait_until_ready(home, another)
    assert list((home / "uploads").iterdir()) == []
    assert list(home.glob(".*.*")) == []
    assert stat.S_IMODE((home / "token").stat().st_mode) == 0o600
    client.close()
    another.kill()
    another.wait()


def test_a_log_that_was_removed_under_a_killed_engine_is_told_at_the_next_start(
    engine: tuple[Path, subprocess.Popen[str]],
) -> None:
    home, process = engine
    client = wait_until_ready(home, process)
    client.command("set_price", {"per_hour": 1.5, "currency": "EUR"})
    client.close()
    process.kill()
    process.wait()
    (home / "tunebench.duckdb.wal").unlink()
    another = start(home)
    wait_until_ready(home, another).close()
    another.terminate()
    line_of_log = next(
        line for line in another.communicate(timeout=SECONDS)[1].splitlines() if "ERROR engine" in line
    )
    assert re.search(r"The store lacks the last \d+ commits that were made, from .* of setting", line_of_log)
    assert "Restore a copy of the home folder" in line_of_log


def test_hung_up_requests_leave_no_traceback(engine: tuple[Path, subprocess.Popen[str]]) -> None:
    home, process = engine
    wait_until_ready(home, process)
    for start_line in ("PUT /uploads/cut.csv", "POST /commands/launch", "POST /sql"):
        with socket.create_connection(address_of(home)) as connection:
            head = f"{start_line} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token(home)}\r\n"
            connection.sendall(f"{head}Content-Length: 100000\r\n\r\nonly this".encode())
            time.sleep(0.2)
    wait_for(lambda: not list((home / "uploads").iterdir()))
    process.send_signal(signal.SIGTERM)
    stderr = process.communicate(timeout=SECONDS)[1]
    assert "Traceback" not in stderr
    assert process.returncode == 0


def test_a_halted_engine_is_not_said_to_be_gone(engine: tuple[Path, subprocess.Popen[str]]) -> None:
    home, process = engine
    wait_until_ready(home, process)
    process.send_signal(signal.SIGSTOP)
    try:
        done = tunebench(home, "runs")
        assert done.returncode == 4
        assert f"The engine (process {process.pid}) is running but stopped by a signal" in done.stderr
        assert f"kill -CONT {process.pid}" in done.stderr
        assert tunebench(home, "import", "/etc/hostname").returncode == 4  # and starts no other
        threading.Thread(target=process.wait, daemon=True).start()  # else it ends, and stays as a zombie
        done = tunebench(home, "down")
        assert "Stopped the engine." in done.stderr
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("blocked", "message"),
    [
        ("engine.lock", "Is a directory (engine.lock)"),
        ("token", "token can't be made private to this user"),
        ("tunebench.duckdb", "tunebench.duckdb can't be opened"),
        ("engine.json", "Is a directory"),
    ],
)
def test_a_home_that_can_not_be_used_is_said_in_a_sentence(
    tmp_path: Path, blocked: str, message: str
) -> None:
    (tmp_path / "home" / blocked).mkdir(parents=True)
    process = start(tmp_path / "home")
    lines = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 1
    assert "Traceback" not in lines
    assert message in lines


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB without any room left."""
    disk = tmp_path / "disk"
    disk.mkdir()
    order = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(order, capture_output=True).returncode != 0:
        pytest.skip("a small disk can't be mounted here: that takes the rights of root")
    try:
        (disk / "home").mkdir()
        with open(disk / "filling", "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 65_536)
        yield disk / "home"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_said(full_disk: Path) -> None:
    process = start(full_disk)
    stderr = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 1
    full = f"The disk of {full_disk} is full: 0 MiB are free."
    last = stderr.strip().splitlines()[-1]  # before it: that the folder was open to others
    assert last == f"{full} Free some space, or delete runs that are not needed."
    done = tunebench(full_disk, "import", "/etc/hostname")  # its engine's log can't be written either
    assert done.returncode == 5
    assert full in done.stderr
    assert "Traceback" not in done.stderr


def test_other_names_are_answered_where_they_are_allowed(tmp_path: Path) -> None:
    process = start(tmp_path / "home", "--allow-host", "lab.example.org")
    try:
        wait_until_ready(tmp_path / "home", process)
        address = read_json(tmp_path / "home" / "engine.json")["address"]
        statuses = {
            host: httpx.get(f"{address}/health", headers={"Host": host}, trust_env=False).status_code
            for host in ("127.0.0.1", "lab.example.org", "evil.test")
        }
        assert statuses == {"127.0.0.1": 200, "lab.example.org": 200, "evil.test": 403}
    finally:
        process.kill()
        process.wait()
    refused = start(tmp_path / "home", "--allow-host", "http://lab")
    assert "not a host name" in refused.communicate(timeout=SECONDS)[1].splitlines()[-1]
    assert refused.returncode == 1


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    process = start(tmp_path / "file" / "home")
    stderr = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 1
    assert str(tmp_path / "file" / "home") in stderr.splitlines()[-1]


def test_an_answer_is_sent_at_once() -> None:
    """asyncio switches off Nagle's algorithm on sockets that are named as TCP alone."""
    with listen(0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert listener.proto == connection.proto == socket.IPPROTO_TCP
