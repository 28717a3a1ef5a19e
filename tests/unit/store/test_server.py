"""The HTTP interface as foreign programs meet it: who is let in, what uploads may do, how failures look."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import duckdb
import httpx
import pyarrow as pa
import pytest

from store.core.errors import ConfigError
from store.core.home import Home
from store.core.schemas import Person
from store.db.database import Database
from store.http import files
from tests.unit.store_samples import TOKEN, add_job, open_store, serving


def fail(body: dict[str, Any], person: Person) -> dict[str, Any]:
    raise KeyError("a bug")


def refuse(body: dict[str, Any], person: Person) -> dict[str, Any]:
    raise ConfigError("r is 0: give 1 or more.", fix="Give 16.", field="r")


def fill_the_disk(body: dict[str, Any], person: Person) -> dict[str, Any]:
    if body.get("by") == "duckdb":
        raise duckdb.TransactionException('Could not write file "x.wal": No space left on device')
    raise OSError(errno.ENOSPC, "No space left on device")


COMMANDS = {
    "echo": lambda body, person: {"got": body},
    "fail": fail,
    "refuse": refuse,
    "edit_run": fill_the_disk,
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Database, httpx.Client]]:
    home, database = open_store(tmp_path_factory.mktemp("server"))
    add_job(database, "job1")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with (
        serving(home, database, COMMANDS) as address,
        httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=20) as http,
    ):
        yield home, database, http
    database.close()


Served = tuple[Home, Database, httpx.Client]
ROUTES = [
    ("POST", "/sql"),
    ("POST", "/queries/runs.runs.list_runs"),
    ("POST", "/commands/echo"),
    ("POST", "/asks/inspect"),
    ("PUT", "/uploads/a"),
    ("GET", "/machine"),
    ("GET", "/models"),
    ("GET", "/jobs/job1/log"),
    ("GET", "/nothing"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("token", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"])
def test_nothing_without_the_token(served: Served, method: str, path: str, token: str | None) -> None:
    _, _, http = served
    headers = {} if token is None else {"Authorization": token}
    answer = httpx.request(method, http.base_url.join(path), headers=headers, trust_env=False)
    assert answer.status_code == 401
    assert set(answer.json()) == {"error", "message", "fix", "field"}


@pytest.mark.parametrize("path", ["/health", "/machine"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "192.168.1.4", ""]
)
def test_a_name_that_is_not_loopback_is_turned_away(served: Served, path: str, host: str) -> None:
    _, _, http = served
    assert http.get(path, headers={"Host": host}).status_code == 403


def test_health_says_who_answers(served: Served) -> None:
    home, _, http = served
    answer = httpx.get(http.base_url.join("/health"), trust_env=False).json()
    assert (answer["name"], answer["home"], answer["pid"]) == ("tunebench", str(home.path), os.getpid())


def test_unknown_paths_methods_and_commands_are_documents(served: Served) -> None:
    _, _, http = served
    assert http.get("/nothing").json()["error"] == "NotFoundError"
    assert (http.get("/sql").status_code, http.get("/sql").json()["message"]) == (
        405,
        "There is no GET /sql.",
    )
    answer = http.post("/commands/edit_runs", json={})
    assert (answer.status_code, answer.json()["fix"]) == (404, "Did you mean edit_run?")
    answer = http.post("/commands/nope", json={})
    assert (answer.status_code, answer.json()["fix"]) == (404, "docs/http.md has all of them.")


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(served: Served, body: bytes) -> None:
    _, _, http = served
    for path in ("/sql", "/queries/jobs.job_queue.queue", "/commands/echo", "/asks/inspect"):
        answer = http.post(path, content=body)
        assert (answer.status_code, answer.json()["field"]) == (422, "body")


@pytest.mark.parametrize("body", [{}, {"sql": 1}, {"sql": "SELECT 1", "params": "x"}])
def test_a_query_of_the_wrong_shape_is_refused(served: Served, body: dict[str, Any]) -> None:
    answer = served[2].post("/sql", json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "QueryError")


def test_commands_and_asks_answer_documents(served: Served) -> None:
    _, _, http = served
    assert http.post("/commands/echo", json={"a": [1, None]}).json() == {"got": {"a": [1, None]}}
    assert http.post("/asks/inspect", json={"a": 1}).json() == {"name": "inspect", "body": {"a": 1}}
    answer = http.post("/commands/refuse", json={})
    assert (answer.status_code, answer.json()["field"], answer.json()["fix"]) == (422, "r", "Give 16.")


def test_a_bug_is_one_sentence_and_the_engine_goes_on(served: Served) -> None:
    _, _, http = served
    answer = http.post("/commands/fail", json={})
    assert answer.status_code == 500
    assert answer.json()["message"] == "The engine failed at POST /commands/fail: KeyError: 'a bug'"
    assert http.post("/commands/echo", json={}).status_code == 200


@pytest.mark.parametrize("by", ["duckdb", "system"])
def test_a_command_on_a_full_disk_says_so(served: Served, by: str) -> None:
    home, _, http = served
    answer = http.post("/commands/edit_run", json={"by": by})
    assert answer.status_code == 409
    assert answer.json()["message"].startswith(f"The disk of {home.path} is full: ")


def test_halves_of_characters_are_refused(served: Served) -> None:
    _, _, http = served
    for content in (rb'{"a": "\ud800"}', rb'{"\udfff": 1}', rb'{"a": ["x\uDBFF x"]}'):
        answer = http.post("/commands/echo", content=content)
        assert (answer.status_code, answer.json()["field"]) == (422, "body")
    assert http.post("/commands/echo", content=rb'{"a": "\ud83d\ude00"}').json() == {"got": {"a": "😀"}}


def test_every_answer_says_to_a_browser_that_it_is_no_page(served: Served) -> None:
    home, _, http = served
    (home.exports / "a.csv").write_text("<script>alert(1)</script>")
    stranger = {"Authorization": "Bearer wrong"}
    answers = [
        http.get("/health"),
        http.post("/sql", json={"sql": "SELECT 1"}),  # a stream
        http.get("/exports/a.csv"),
        http.get("/machine", headers=stranger),
        http.get("/health", headers={"Host": "evil.example"}),
        http.get("/nothing"),
        http.get("/sql"),
        http.post("/commands/refuse", json={}),
        http.post("/commands/fail", json={}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 401, 403, 404, 405, 422, 500]
    for answer in answers:
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_sql_answers_an_arrow_stream(served: Served) -> None:
    answer = served[2].post("/sql", json={"sql": "SELECT job_id, ? AS n FROM job", "params": [3]})
    assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
    assert pa.ipc.open_stream(answer.content).read_all().to_pylist() == [{"job_id": "job1", "n": 3}]


def test_a_large_result_is_sent_while_it_is_made(served: Served) -> None:
    sql = {"sql": "SELECT range AS n, hash(range) AS h FROM range(20000000)"}  # 320 MB
    served[2].post("/sql", json={"sql": "SELECT 1"})  # so that a process is there
    began = time.monotonic()
    with served[2].stream("POST", "/sql", json=sql) as answer:
        assert "content-length" not in answer.headers
        next(answer.iter_raw())
        assert time.monotonic() - began < 2


def test_a_stream_that_fails_late_can_not_be_taken_for_whole(served: Served) -> None:
    sql = "SELECT CASE WHEN a = 3000000 THEN error('boom')::BIGINT ELSE a END AS n FROM range(5000000) t(a)"
    with served[2].stream("POST", "/sql", json={"sql": sql}) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()


def test_a_client_that_hangs_up_stops_its_statement(served: Served) -> None:
    _, database, http = served
    under_way = database._statements._running
    sql = json.dumps({"sql": "SELECT count(*) FROM range(1000000000000) t(a) WHERE hash(a) % 7 = 3"}).encode()
    head = f"POST /sql HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
    with socket.create_connection((http.base_url.host, http.base_url.port or 0)) as connection:
        connection.sendall(f"{head}Content-Length: {len(sql)}\r\n\r\n".encode() + sql)
        _wait(lambda: len(under_way) == 1)
    _wait(lambda: not under_way)


def _wait(done: Any) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- uploads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("rows.csv", "rows.csv"),
        ("../../etc/passwd", "passwd"),
        ("/abs/olute.csv", "olute.csv"),
        ("C:\\Users\\me\\rows.csv", "rows.csv"),
        (".hidden", "hidden"),
        ("...", None),
        ("", None),
        ("a/", None),
        ("  ", None),
        ("a\x00b\n.csv", "ab.csv"),
        ("Zürich.csv", "Zürich.csv"),
        ("x" * 300 + ".csv.gz", "x" * 193 + ".csv.gz"),
        ("ü" * 300, "ü" * 100),
    ],
)
def test_names_become_plain(name: str, kept: str | None) -> None:
    if kept is None:
        with pytest.raises(ConfigError, match="not a file name"):
            files.sanitise_file_name(name)
    else:
        assert files.sanitise_file_name(name) == kept


@pytest.mark.parametrize("path", ["..%2F..%2Fescape.csv", "%2Fetc%2Fescape.csv", "a%2F..%2F..%2Fescape.csv"])
def test_uploads_stay_in_their_folder(served: Served, path: str) -> None:
    home, _, http = served
    name = http.put(f"/uploads/{path}", content=b"x").json()["upload"]
    assert (home.uploads / name).read_bytes() == b"x"
    assert not [p for p in home.path.rglob("escape*") if p.parent != home.uploads]


def test_an_upload_never_replaces_another(served: Served) -> None:
    home, _, http = served
    names = [http.put("/uploads/same.csv.gz", content=f"{i}".encode()).json()["upload"] for i in range(3)]
    assert names == ["same.csv.gz", "same (2).csv.gz", "same (3).csv.gz"]
    assert [(home.uploads / name).read_text() for name in names] == ["0", "1", "2"]


def test_an_upload_is_as_long_as_what_was_sent(served: Served) -> None:
    home, _, http = served
    content = os.urandom(10_000_001)
    name = http.put("/uploads/big.bin", content=content).json()["upload"]
    assert (home.uploads / name).read_bytes() == content


def test_a_full_disk_is_told_and_nothing_is_left(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    home, _, http = served
    before = sorted(os.listdir(home.uploads))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    answer = http.put("/uploads/full.csv", content=b"x" * 5_000_000)
    assert (answer.status_code, answer.json()["message"]) == (
        422,
        "Not enough disk space for 'full.csv'.",
    )
    assert sorted(os.listdir(home.uploads)) == before


def test_an_upload_that_breaks_off_leaves_nothing(served: Served) -> None:
    home, _, http = served
    before = sorted(os.listdir(home.uploads))
    head = f"PUT /uploads/cut.csv HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
    with socket.create_connection((http.base_url.host, http.base_url.port or 0)) as connection:
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\nonly this".encode())
        _wait(lambda: sorted(os.listdir(home.uploads)) != before)
    _wait(lambda: sorted(os.listdir(home.uploads)) == before)


# -- logs, machine ------------------------------------------------------------------------------------


def test_the_end_of_a_log_begins_at_a_line(served: Served) -> None:
    home, _, http = served
    (home.jobs / "job1").mkdir(exist_ok=True)
    assert http.get("/jobs/job1/log").json() == {"text": "", "bytes": 0, "shown_bytes": 0}
    (home.jobs / "job1" / "log.txt").write_bytes(b"first\nsecond\nth\xffird\n")
    assert http.get("/jobs/job1/log?tail=12").json() == {
        "text": "th\ufffdird\n",
        "bytes": 20,
        "shown_bytes": 7,
    }
    assert http.get("/jobs/job1/log").json()["shown_bytes"] == 20
    assert http.get("/jobs/job1/log?tail=-1").json()["field"] == "tail"


@pytest.mark.parametrize("job_id", ["nope", "..%2Fuploads", "..", "%2e%2e", "job1%2F..%2F..%2Ftoken"])
def test_the_log_of_no_job(served: Served, job_id: str) -> None:
    assert served[2].get(f"/jobs/{job_id}/log").status_code == 404


def test_the_machine_is_read_over_http(served: Served) -> None:
    reading = served[2].get("/machine").json()
    assert set(reading) == {
        *("cpu_percent", "cores", "memory_used_gib", "memory_total_gib", "disk_free_gib", "gpus", "devices"),
        "bf16",
    }
    assert 0 < reading["memory_used_gib"] < reading["memory_total_gib"]
    assert reading["devices"] == ["cpu"]
