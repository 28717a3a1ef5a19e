"""Who is let in: names, origins, the secret in the address, the cookie; and what is not read for anybody."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from pages.people.access_middleware import AccessMiddleware, build_cookie_name
from store.core.errors import ConfigError
from store.core.home import Home
from store.http.access import HostNames, build_screen_url, is_loopback, read_secret
from tests.unit.people_samples import alone

SECRET = "the-secret-of-the-test"
ADDRESS = "http://127.0.0.1:8501"
LIVE = "ws://127.0.0.1:8501/_stcore/stream"
COOKIE = {"Cookie": f"{build_cookie_name(SECRET)}={SECRET}"}
PATHS = ["/", "/launch", "/static/js/index.js", "/media/a.png", "/_stcore/health", "/_stcore/upload_file/s/f"]


async def _answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"inside {request.url.path}")


async def _live(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("inside")
    await socket.close()


def visitor(names: HostNames | None = None, address: str = ADDRESS) -> TestClient:
    """A client of an app behind the door; it follows nothing and keeps no cookie that it isn't given."""
    methods = ["GET", "PUT", "POST", "DELETE"]
    app = Starlette(
        routes=[
            WebSocketRoute("/_stcore/stream", _live),
            Mount("/", routes=[Route("/{path:path}", _answer, methods=methods)]),
        ],
        middleware=[
            Middleware(AccessMiddleware, secret=SECRET, names=names or HostNames(), visitors=alone())
        ],
    )
    return TestClient(app, base_url=address, follow_redirects=False)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Cookie": f"{build_cookie_name(SECRET)}="},
        {"Cookie": f"{build_cookie_name(SECRET)}={SECRET}x"},
        {"Cookie": f"another={SECRET}"},
        {"Authorization": f"Bearer {SECRET}"},
    ],
)
def test_nothing_without_the_secret(path: str, headers: dict[str, str]) -> None:
    for method in ("GET", "PUT", "POST"):
        answer = visitor().request(method, path, headers=headers)
        assert (answer.status_code, answer.text) == (403, "The secret is missing or wrong.")


@pytest.mark.parametrize("path", PATHS)
def test_the_cookie_opens_everything(path: str) -> None:
    assert visitor().get(path, headers=COOKIE).text == f"inside {path}"
    both = {
        "Cookie": f"{build_cookie_name(SECRET)}=wrong; other=1; {COOKIE['Cookie']}"
    }  # set by another server
    assert visitor().get(path, headers=both).status_code == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.test"},
        {"Host": "evil.test:8501"},
        {"Host": "127.0.0.1.evil.test"},
        {"Host": "192.168.1.4:8501"},
        {"Host": "0.0.0.0:8501"},
        {"Host": "127.0.0.1@evil.test"},
        {"Host": "127.0.0.1:8501/evil"},
        {"Host": ""},
        {"Origin": "http://evil.test"},
        {"Origin": "http://evil.test:8501"},
        {"Origin": "http://127.0.0.1:9999"},  # a page of another server on this machine
        {"Origin": "http://127.0.0.1"},
        {"Origin": "null"},
        {"Origin": "file://"},
        {"Origin": "http://127.0.0.1:8501.evil.test"},
        {"Origin": "http://127.0.0.1:8501@evil.test"},
        {"Origin": "http://["},
    ],
)
def test_foreign_names_are_turned_away_with_the_cookie_too(path: str, headers: dict[str, str]) -> None:
    for method in ("GET", "PUT"):
        assert visitor().request(method, path, headers=COOKIE | headers).status_code == 403
    whole = f"{path}?secret={SECRET}"
    assert visitor().get(whole, headers=headers).status_code == 403


def test_two_host_headers_are_one_too_many() -> None:
    headers = [(b"host", b"127.0.0.1:8501"), (b"host", b"evil.test")]
    assert HostNames().problem({"headers": headers})
    assert not HostNames().problem({"headers": headers[:1]})
    assert HostNames().problem({"headers": []})


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8501", "http://localhost:8501", "http://LOCALHOST:1", "http://[::1]:8501"]
)
def test_loopback_names_and_their_own_origin_are_good(address: str) -> None:
    headers = COOKIE | {"Origin": address.lower()}
    assert visitor(address=address).put("/x", headers=headers).status_code == 200


def test_a_name_that_was_allowed_is_good() -> None:
    names = HostNames(["Lab.Example.org"])
    ours = {"Host": "lab.example.org", "Origin": "https://lab.example.org"}
    assert visitor(names).get("/", headers=COOKIE | ours).status_code == 200
    behind_proxy = {"Host": "127.0.0.1:8501", "Origin": "https://lab.example.org"}
    assert visitor(names).put("/", headers=COOKIE | behind_proxy).status_code == 200
    for host in ("evil.test", "x.lab.example.org", "lab.example.org.evil.test"):
        assert visitor(names).get("/", headers=COOKIE | {"Host": host}).status_code == 403
    assert visitor(names).get("/", headers=ours).status_code == 403  # the secret is asked of it too


@pytest.mark.parametrize("name", ["", "*", "http://lab", "lab:80", "a b", "-a", "a..b", "é.test", "a" * 300])
def test_what_is_no_host_name_can_not_be_allowed(name: str) -> None:
    with pytest.raises(ConfigError, match="--allow-host") as caught:
        HostNames([name])
    assert caught.value.field == "allow_host"


@pytest.mark.parametrize(
    ("headers", "let_in"),
    [
        ({}, False),
        (COOKIE, True),
        (COOKIE | {"Origin": "http://127.0.0.1:8501"}, True),
        (COOKIE | {"Origin": "http://evil.test"}, False),
        (COOKIE | {"Origin": "http://127.0.0.1:9999"}, False),
        (COOKIE | {"Host": "evil.test", "Origin": "http://evil.test"}, False),
    ],
)
def test_the_live_connection_has_the_same_door(headers: dict[str, str], let_in: bool) -> None:
    client = visitor()
    if let_in:
        with client.websocket_connect(LIVE, headers=headers) as socket:
            assert socket.receive_text() == "inside"
    else:
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(LIVE, headers=headers):
            pass
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(f"{LIVE}?secret={SECRET}"):
        pass  # the address opens a page, which sets the cookie, and nothing else


def test_the_address_with_its_secret_gives_the_cookie_and_goes_on() -> None:
    address = build_screen_url(ADDRESS, SECRET, '/data?filter={"search":"a%26b"}&secret=old')
    answer = visitor().get(address)
    assert answer.status_code == 200
    assert SECRET not in answer.text
    assert 'url=/data?filter=%7B%22search%22%3A%22a%26b%22%7D"' in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{build_cookie_name(SECRET)}={SECRET};")
    assert {part.strip() for part in cookie.split(";")} >= {"HttpOnly", "SameSite=strict", "Path=/"}
    assert "Max-Age=31536000" in cookie  # so that bookmarks outlive the browser
    again = visitor().get(address, headers=COOKIE)  # a bookmark of the whole address
    assert 'http-equiv="refresh"' in again.text


@pytest.mark.parametrize("path", ["//evil.test/x", "/\\evil.test/x", "//evil.test//x"])
def test_the_address_leads_nowhere_else(path: str) -> None:
    answer = visitor().get(f"{ADDRESS}{path}?secret={SECRET}")
    assert "url=/evil.test/" in answer.text


def test_markup_in_the_address_stays_text() -> None:
    answer = visitor().get(f'/"><script>alert(1)</script>?secret={SECRET}&a="><script>')
    assert "<script" not in answer.text


def test_the_secret_in_an_address_of_another_method_opens_nothing() -> None:
    for method in ("PUT", "POST", "DELETE"):
        answer = visitor().request(method, f"/x?secret={SECRET}")
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


def test_a_browser_is_told_where_the_address_is() -> None:
    html = {"Accept": "text/html,*/*"}
    answer = visitor().get("/run?run=a", headers=html)
    assert (answer.status_code, answer.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert "tunebench url" in answer.text
    assert "tunebench up" in answer.text
    link = visitor().get("/run?run=a", headers=html | {"Sec-Fetch-Site": "cross-site"})
    assert "A link on another site brought you here" in link.text
    foreign = visitor().get("/", headers=COOKIE | html | {"Host": "evil.test"})
    assert "--allow-host" in foreign.text
    assert "tunebench url" not in foreign.text


def test_every_home_has_a_cookie_of_its_own() -> None:
    assert build_cookie_name("a") != build_cookie_name("b")
    assert "a-secret" not in build_cookie_name("a-secret")


# -- secrets in files ---------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_secret_is_made_once_and_closed_to_others_each_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    secret = read_secret(path)
    assert len(secret) >= 40
    assert mode(path) == 0o600
    path.chmod(0o644)
    assert read_secret(path) == secret
    assert mode(path) == 0o600
    assert os.listdir(tmp_path) == ["token"]
    assert read_secret(tmp_path / "other") != secret


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"])
def test_a_file_without_a_secret_gets_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    assert len(read_secret(path)) >= 40
    assert mode(path) == 0o600


def test_a_secret_that_can_not_be_kept_is_said(tmp_path: Path) -> None:
    (tmp_path / "token").mkdir()
    with pytest.raises(ConfigError, match="can't be made private") as caught:
        read_secret(tmp_path / "token")
    assert caught.value.field == "TUNEBENCH_HOME"


def test_a_new_home_is_closed_to_others(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        home = Home(tmp_path / "home").create()
    finally:
        os.umask(old)
    assert mode(home.path) == 0o700
    assert {mode(path) for path in home.path.iterdir()} == {0o700}


@pytest.mark.parametrize("open_mode", [0o755, 0o777, 0o710])
def test_a_home_that_was_open_is_closed_with_what_is_secret_in_it(
    tmp_path: Path, open_mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(tmp_path / "home").create()
    names = ("token", "screens.token", "screens.secret", "oidc.toml", "tunebench.duckdb")
    for name in names:
        (home.path / name).write_text("x")
        (home.path / name).chmod(0o640)
    home.path.chmod(open_mode)
    assert not caplog.messages
    home.create()
    assert mode(home.path) == 0o700
    assert {mode(home.path / name) for name in names} == {0o600}
    assert len(caplog.messages) == 1 + len(names)
    assert caplog.messages[0] == (
        f"{home.path} was open to other users (mode {open_mode:04o}) and is closed to them now (0700)."
    )
    home.create()
    assert len(caplog.messages) == 1 + len(names)  # said once


@pytest.mark.parametrize("name", ["", "token"])
def test_a_home_or_a_secret_of_another_user_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home").create()
    (home.path / "token").write_text("x")
    other = home.path / name
    real = Path.lstat

    def lstat(path: Path) -> os.stat_result:
        status = real(path)
        return os.stat_result((*status[:4], status.st_uid + 1, *status[5:])) if path == other else status

    monkeypatch.setattr(Path, "lstat", lstat)
    with pytest.raises(ConfigError, match="belongs to another user") as caught:
        home.create()
    assert str(other) in caught.value.message
    assert caught.value.field == "TUNEBENCH_HOME"


def test_names_of_loopback() -> None:
    for name in (
        "127.0.0.1",
        "127.8.8.8",
        "localhost",
        "::1",
        "[::1]",
        "::ffff:127.0.0.1",
        "[::ffff:7f00:1]",
    ):
        assert is_loopback(name)
    for name in (
        "127.0.0.1.evil.test",
        "::",
        "0.0.0.0",
        "::ffff:192.0.2.7",
        "2001:db8::1",
        "[::1].evil.test",
        "",
    ):
        assert not is_loopback(name)


@pytest.mark.parametrize("allowed", ["2001:db8::7", "[2001:DB8::7]", "2001:db8:0:0::0007"])
def test_an_address_is_allowed_however_it_is_written(allowed: str) -> None:
    names = HostNames([allowed])
    for host in ("[2001:db8::7]", "[2001:db8::7]:8501", "[2001:0db8::0007]:443"):
        assert visitor(names).get("/", headers=COOKIE | {"Host": host}).status_code == 200
    origin = {"Host": "127.0.0.1", "Origin": "https://[2001:db8::7]"}
    assert visitor(names).put("/", headers=COOKIE | origin).status_code == 200
    for host in ("[2001:db8::8]", "2001:db8::7", "[2001:db8::7].evil.test", "[::]", "[]", "[1.2.3.4.5]"):
        assert visitor(names).get("/", headers=COOKIE | {"Host": host}).status_code == 403


# -- what is no source of rows ------------------------------------------------------------------------


@pytest.fixture
def ways(tmp_path: Path, home: Home) -> Callable[[Path], list[Path]]:
    """Every way to name a file of the home folder."""

    def all_ways(path: Path) -> list[Path]:
        link, folder, hard = tmp_path / "link", tmp_path / "folder", tmp_path / "hard"
        for old in (link, folder, hard):
            old.unlink(missing_ok=True)
        link.symlink_to(path)
        folder.symlink_to(home.path)
        inside = path.relative_to(home.path)
        ways = [path, link, folder / inside, home.path / "uploads" / ".." / inside]
        if Path("/proc/self/root").exists():
            ways.append(Path(f"/proc/self/root{path}"))
        return ways

    return all_ways


@pytest.mark.parametrize(
    "name",
    [
        *(
            "token",
            "screens.secret",
            "engine.json",
            "tunebench.duckdb",
            "tunebench.duckdb.wal",
            "engine.lock",
        ),
        *(
            "logs/engine.log",
            "jobs/job-1/config.json",
            "jobs/job-1/predictions.parquet",
            "asks/a/config.json",
        ),
        *(
            "metrics/own.py",
            "cache/x.json",
            "datasets/f00d/notes.txt",
            "uploads/.upload-1234",
            "models/m/a.json",
        ),
        *("not-there", "."),
    ],
)
def test_files_of_the_home_folder_are_no_data(home: Home, ways: Any, name: str) -> None:
    path = home.path / name
    if name not in ("not-there", "."):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("q,a\n1,2\n")
    assert [way for way in ways(path) if not home.holds(way)] == []


def test_a_second_name_of_a_secret_is_that_secret(home: Home, tmp_path: Path) -> None:
    read_secret(home.token)
    os.link(home.token, tmp_path / "rows.csv")
    assert home.holds(tmp_path / "rows.csv")


@pytest.mark.parametrize("name", ["uploads/rows.csv", "exports/rows.jsonl", "datasets/f00d/rows.parquet"])
def test_uploads_exports_and_rows_are_data(home: Home, ways: Any, tmp_path: Path, name: str) -> None:
    path = home.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("q,a\n1,2\n")
    assert [way for way in ways(path) if home.holds(way)] == []
    (tmp_path / "own.csv").write_text("q,a\n1,2\n")
    assert not home.holds(tmp_path / "own.csv")
