"""Bodies have limits, whatever they say of their length, and none that is too long gets into memory."""

from __future__ import annotations

import logging
import os
import socket
import time
import tomllib
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from store.core.errors import TooLargeError
from store.core.home import SPARE_BYTES, Home
from store.http import files, request_bodies, server
from store.http.client import Client
from tests.unit.store_samples import TOKEN, new_store, serving

BLOCK = b" " * 65_536
HEAD = f"Host: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, httpx.Client]]:
    home, database = new_store(tmp_path_factory.mktemp("bodies"))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with (
        serving(home, database, {"echo": lambda body, person: {"keys": len(body)}}) as address,
        httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=30) as http,
    ):
        yield home, http
    database.close()


Served = tuple[Home, httpx.Client]
ROUTES = [("/commands/echo", "the command echo"), ("/asks/inspect", "an ask"), ("/sql", "a statement")]


def blocks(size: int) -> Iterator[bytes]:
    for _ in range(size // len(BLOCK)):
        yield BLOCK


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(("path", "what"), ROUTES)
def test_a_json_body_has_a_limit_that_is_said(served: Served, path: str, what: str, declared: bool) -> None:
    size = 8 * server.BODY_BYTES
    headers = {"Content-Length": str(size)} if declared else {}
    tracemalloc.start()
    answer = served[1].post(path, content=blocks(size), headers=headers)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answer.status_code == 413
    assert answer.json()["error"] == "TooLargeError"
    assert answer.json()["message"] == f"The body of {what} is longer than its limit of 8 MiB."
    assert peak < 3 * server.BODY_BYTES
    assert served[1].post("/commands/echo", json={}).status_code == 200


def test_a_body_up_to_the_limit_is_taken(served: Served) -> None:
    body = b'{"a":"' + b"x" * (server.BODY_BYTES - 8) + b'"}'
    assert len(body) == server.BODY_BYTES
    assert served[1].post("/commands/echo", content=body).json() == {"keys": 1}
    assert served[1].post("/commands/echo", content=body + b" ").status_code == 413


def raw(http: httpx.Client, request: bytes, *, end: bool = False) -> str:
    """The first line of the answer to bytes as they are; "" where the connection ends without one."""
    with socket.create_connection((http.base_url.host, http.base_url.port or 0), timeout=20) as connection:
        connection.sendall(request)
        if end:
            connection.shutdown(socket.SHUT_WR)
        return connection.recv(65_536).decode("latin-1").partition("\r\n")[0]


@pytest.mark.parametrize(
    ("length", "status"),
    [
        ("999999999999", "413"),
        ("9" * 30, "4"),  # no server counts so far
        ("-5", "400"),
        ("5, 6", "400"),
        ("0x10", "400"),
        ("2", "200"),
    ],
)
def test_a_length_that_lies_is_not_believed(
    served: Served, monkeypatch: pytest.MonkeyPatch, length: str, status: str
) -> None:
    monkeypatch.setattr(request_bodies, "DRAIN_SECONDS", 0.2)
    head = f"POST /commands/echo HTTP/1.1\r\n{HEAD}Content-Length: {length}\r\n\r\n"
    line = raw(served[1], head.encode() + b"{}")
    assert line.startswith(f"HTTP/1.1 {status}"), line
    assert served[1].post("/commands/echo", json={}).status_code == 200


def test_a_client_that_waits_to_be_asked_is_refused_at_once(served: Served) -> None:
    head = f"POST /sql HTTP/1.1\r\n{HEAD}Content-Length: 1600000000\r\nExpect: 100-continue\r\n\r\n"
    assert raw(served[1], head.encode()).startswith("HTTP/1.1 413")


def test_chunks_that_are_none_are_refused(served: Served) -> None:
    head = f"POST /sql HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n"
    assert raw(served[1], head.encode()).startswith("HTTP/1.1 400")


def test_the_client_says_what_was_too_long(served: Served) -> None:
    client = Client(served[0])
    with pytest.raises(TooLargeError, match="The body of the command echo"):
        client.command("echo", {"a": "x" * server.BODY_BYTES})
    client.close()


# -- uploads ------------------------------------------------------------------------------------------


def left(home: Home) -> list[str]:
    return sorted(os.listdir(home.uploads))


@pytest.mark.parametrize("declared", [True, False])
def test_an_upload_has_a_limit_and_leaves_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch, declared: bool
) -> None:
    home, http = served
    monkeypatch.setattr(files, "FILE_BYTES", 10 * 2**20)
    before = left(home)
    headers = {"Content-Length": str(40 * 2**20)} if declared else {}
    answer = http.put("/uploads/big.csv", content=blocks(40 * 2**20), headers=headers)
    assert (answer.status_code, answer.json()["field"]) == (413, "upload")
    assert "the limit of an upload" in answer.json()["message"]
    assert left(home) == before


@pytest.mark.parametrize("declared", [True, False])
def test_an_upload_leaves_room_on_the_disk(
    served: Served, monkeypatch: pytest.MonkeyPatch, declared: bool
) -> None:
    home, http = served

    def filling(folder: Path) -> SimpleNamespace:
        """A disk with 9 MiB to spare when the upload begins."""
        written = sum(path.stat().st_size for path in folder.glob(".upload-*"))
        return SimpleNamespace(free=SPARE_BYTES + 9 * 2**20 - written)

    monkeypatch.setattr(files.shutil, "disk_usage", filling)
    before = left(home)
    headers = {"Content-Length": str(40 * 2**20)} if declared else {}
    answer = http.put("/uploads/big.csv", content=blocks(40 * 2**20), headers=headers)
    assert answer.status_code == 422
    assert answer.json()["message"] == "Not enough disk space for 'big.csv'."
    assert left(home) == before
    assert http.put("/uploads/small.csv", content=blocks(2**20)).status_code == 200


def test_an_upload_is_never_in_memory(served: Served) -> None:
    home, http = served
    tracemalloc.start()
    answer = http.put("/uploads/long.bin", content=blocks(96 * 2**20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    name = answer.json()["upload"]
    assert (home.uploads / name).stat().st_size == 96 * 2**20
    (home.uploads / name).unlink()
    assert peak < 16 * 2**20


def test_the_limit_is_the_one_of_the_screens() -> None:
    root = Path(__file__).resolve().parents[3]
    screens = tomllib.loads((root / "pages/streamlit.toml").read_text())
    assert screens["server"]["maxUploadSize"] * 2**20 == files.FILE_BYTES


def test_what_a_killed_engine_left_is_removed_and_what_is_whole_stays(home: Home) -> None:
    (home.uploads / ".upload-0123").write_bytes(b"half")
    (home.uploads / "rows.csv").write_bytes(b"whole")
    for name in (".token.999999999", ".engine.json.999999999", ".write-test.999999999"):
        (home.path / name).write_text("half")
    (home.path / f".engine.json.{os.getpid()}").write_text("of a process that is at it")
    (home.path / ".hidden.txt").write_text("the user's own")
    files.remove_stale(home.uploads)
    home.remove_stale()
    assert left(home) == ["rows.csv"]
    hidden = sorted(path.name for path in home.path.glob(".*"))
    assert hidden == [f".engine.json.{os.getpid()}", ".hidden.txt"]


def test_a_hung_up_request_is_no_failure(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    home, http = served
    before = left(home)
    log = logging.getLogger("uvicorn.error")
    log.addHandler(caplog.handler)
    log.setLevel(logging.ERROR)  # the server of the tests keeps it quiet
    for start in ("PUT /uploads/cut.csv", "POST /commands/echo", "POST /sql", "POST /asks/inspect"):
        head = f"{start} HTTP/1.1\r\n{HEAD}Content-Length: 1000\r\n\r\nonly this"
        assert raw(http, head.encode(), end=True) == ""
    deadline = time.monotonic() + 10
    while left(home) != before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert http.get("/health").status_code == 200
    log.removeHandler(caplog.handler)
    log.setLevel(logging.CRITICAL)
    assert left(home) == before
    assert caplog.text == ""
