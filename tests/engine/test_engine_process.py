"""`python -m engine` as a process: one a home folder, its files, its port, its end."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import datasets, jobs
from store.client import Client
from store.errors import EngineUnavailable
from store.home import Home
from store.jobdir import read_json

ROOT = Path(__file__).resolve().parents[2]
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
    assert jobs.recent_jobs(client) == []  # nothing is prepared where that was switched off
    maps = Path(f"/proc/{process.pid}/maps")
    assert not maps.exists() or "libtorch" not in maps.read_text()

    (home / "uploads" / "pairs.csv").write_text("question,answer\nWhat?,This.\nWho?,She.\n")
    body = {"name": "Pairs", "source": {"upload": "pairs.csv"}}
    job_id = client.command("import_dataset", body)["job_id"]
    deadline = time.monotonic() + SECONDS
    while jobs.get_job(client, job_id)["status"] != "finished":
        assert time.monotonic() < deadline, jobs.get_job(client, job_id)
        time.sleep(0.1)
    assert datasets.get_dataset(client, "Pairs")["row_count"] == 2

    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert not (home / "engine.json").exists()
    assert not (home / "tunebench.duckdb.wal").exists()  # the store was closed in order


def test_a_second_engine_names_the_first(engine: tuple[Path, subprocess.Popen[str]]) -> None:
    home, process = engine
    wait_until_ready(home, process)
    second = start(home)
    said = second.communicate(timeout=SECONDS)[1]
    assert second.returncode == 3
    assert read_json(home / "engine.json")["address"] in said.splitlines()[-1]


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
        said = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 4
    assert f"Port {port} can't be used" in said.splitlines()[-1]


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    process = start(tmp_path / "file" / "home")
    said = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 1
    assert str(tmp_path / "file" / "home") in said.splitlines()[-1]
