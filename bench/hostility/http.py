"""Malicious requests to a real engine and real screens: names, bodies, methods, headers, slow ones.

Each must be refused, with a status below 500 or by closing the connection, and leave nothing: no file, no
traceback in a log, no memory, and two servers that respond at once.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from bench.hostility import Attempt
from bench.served import Served, processes_of
from store.core.home import Home
from tunebench.terminal.processes import find_free_port

FOREIGN = [
    {"Host": "evil.test"},
    {"Host": "evil.test", "Origin": "http://evil.test"},
    {"Host": "127.0.0.1.evil.test"},
    {"Host": "0.0.0.0"},
    {"Host": "169.254.169.254"},
    {"Origin": "http://evil.test"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
]
ENGINE_PATHS = ["/health", "/machine", "/models", "/sql", "/commands/launch", "/asks/inspect", "/uploads/a"]
ENGINE_PATHS += ["/jobs/x/log", "/exports/x"]
SCREEN_PATHS = [
    "/",
    "/data",
    "/_stcore/health",
    "/_stcore/stream",
    "/_stcore/upload_file/s/f",
    "/static/x.js",
]
SCREEN_PATHS += ["/media/x.png", "/component/x/y", "/_stcore/host-config"]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "CONNECT"]
JSON_BYTES, UPLOAD_BYTES = 3 * 2**29, 2**30  # 1.5 GiB, 1 GiB
GROWTH_MIB = 100  # of a server's memory while a body is received
SLOW, CUT, ODD = 100, 24, 60  # slow connections, interrupted uploads and odd requests, at each server
BLOCK = b" " * 2**20


@dataclass(frozen=True)
class Door:
    """One of the two servers, and the credentials for it."""

    name: str
    address: str
    own: Mapping[str, str]
    paths: list[str]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


def attempts(seed: int, folder: Path) -> Iterator[Attempt]:
    """Try everything on both servers, and check last what is left."""
    served = Served(Home(folder / "home").create(), find_free_port(None))
    try:
        engine = Door("engine", served.engine.address, served.bearer, ENGINE_PATHS)
        screens = Door("screens", served.screens.address, served.cookie, SCREEN_PATHS)
        pids = served.engine.pid, served.screens.pid
        for door in (engine, screens):
            yield from _names(door)
            yield from _methods(door)
            yield from _odd(door, random.Random(seed))
            yield from _cut(door, random.Random(seed))
            yield from _slow(door)
        yield from _bodies(engine, served)
        with _Memory(served.screens.pid) as memory:
            status = _status(screens, "PUT", "/_stcore/upload_file/s/f", {}, _blocks(UPLOAD_BYTES)())
        yield _bounded("1 GiB to the screens without the secret", status or 403, 403, memory)
        yield from _left(served, pids)
    finally:
        served.stop()


def _status(door: Door, method: str, path: str, headers: Mapping[str, str], content: object = None) -> int:
    """Return the status of a response without reading its body; 0 if the connection ends without one."""
    try:
        with httpx.Client(trust_env=False, timeout=60) as http:
            request = http.build_request(method, door.address + path, headers=headers, content=content)  # type: ignore[arg-type]
            answer = http.send(request, stream=True)
            answer.close()
            return answer.status_code
    except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
        return 0


def _names(door: Door) -> Iterator[Attempt]:
    """Try foreign host names and origins with valid credentials, and requests without a secret."""
    for path in door.paths:
        for headers in FOREIGN:
            status = _status(door, "GET", path, {**door.own, **headers})
            yield Attempt(f"{door.name} {path} {headers}", "" if status == 403 else f"answered {status}")
        if path != "/health":
            status = _status(door, "GET", path, {})
            yield Attempt(
                f"{door.name} {path} without a secret", "" if status in (401, 403) else f"answered {status}"
            )


def _methods(door: Door) -> Iterator[Attempt]:
    for path in door.paths:
        for method in METHODS:
            if (method, path) == ("PUT", "/uploads/a"):
                continue  # a valid file, though empty
            status = _status(door, method, path, door.own)
            yield Attempt(f"{door.name} {method} {path}", f"answered {status}" if status >= 500 else "")


def _raw(door: Door, request: bytes, *, seconds: float = 5) -> bytes:
    """Send raw bytes and return the response."""
    with socket.create_connection(("127.0.0.1", door.port), timeout=seconds) as connection:
        answer = b""
        with contextlib.suppress(OSError):
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65_536):
                answer += chunk
                if len(answer) > 2**20:
                    break
        return answer


def _head(door: Door, line: str, *more: str) -> bytes:
    own = [f"{name}: {value}" for name, value in door.own.items()]
    return ("\r\n".join([line, f"Host: 127.0.0.1:{door.port}", *own, *more]) + "\r\n\r\n").encode("latin-1")


def _odd_requests(door: Door, draw: random.Random) -> list[bytes]:
    """Return requests that could confuse a parser: handwritten ones first, then randomly damaged ones."""
    ways = [
        "/../../../../etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
    ]
    ways += ["/static/..%5c..%5cetc%5cpasswd", "/media/%00", "/exports/..%2ftoken", "/uploads/..%2ftoken"]
    ways += [
        "/jobs/..%2f..%2f/log",
        "/component/../../etc/passwd",
        "/app/static/../../token",
        "/" + "a" * 100_000,
    ]
    fine = _head(door, "POST /commands/launch HTTP/1.1", "Content-Length: 2") + b"{}"
    odd = [_head(door, f"GET {way} HTTP/1.1") for way in ways]
    odd += [
        _head(door, "GET http://evil.test/ HTTP/1.1"),
        _head(door, "GET / HTTP/9.9"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"\x00" * 1000,
        _head(door, "GET / HTTP/1.1", "X: " + "a" * 2**20),
        _head(door, "GET / HTTP/1.1", *(f"X-{index}: a" for index in range(10_000))),
        _head(door, "GET / HTTP/1.1", "Host: evil.test"),
        _head(door, "POST /sql HTTP/1.1", "Content-Length: 5", "Content-Length: 6") + b"{}{}{}",
        _head(door, "POST /sql HTTP/1.1", "Content-Length: 2", "Transfer-Encoding: chunked")
        + b"0\r\n\r\nGET",
        _head(door, "POST /sql HTTP/1.1", "Transfer-Encoding: chunked") + b"ffffffffffffffff\r\n{}",
        _head(door, "POST /sql HTTP/1.1", "Content-Length: 99999999999999999999") + b"{}",
        _head(door, "POST /sql HTTP/1.1", "Content-Encoding: gzip", "Content-Length: 2") + b"\x1f\x8b",
    ]
    while len(odd) < ODD:
        damaged = bytearray(fine)
        for _ in range(draw.randint(1, 6)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        odd.append(bytes(damaged))
    return odd


def _odd(door: Door, draw: random.Random) -> Iterator[Attempt]:
    for request in _odd_requests(door, draw):
        answer = _raw(door, request)
        failure = ""
        if answer[9:10] == b"5" and not answer.startswith(b"HTTP/1.1 505"):
            failure = answer[:200].decode("latin-1")
        if b"root:x:" in answer:
            failure = "it gave a file of the machine"
        yield Attempt(f"{door.name} {request[:60]!r}", failure)


def _cut(door: Door, draw: random.Random) -> Iterator[Attempt]:
    """Send requests that break off before, within and after their body."""
    for number in range(CUT):
        line = draw.choice(
            ["PUT /uploads/cut.csv", "POST /sql", "PUT /_stcore/upload_file/s/f", "POST /commands/x"]
        )
        request = _head(door, f"{line} HTTP/1.1", f"Content-Length: {draw.choice([10**6, 10**9])}")
        request += b"x" * draw.choice([0, 5, 10**5])
        with socket.create_connection(("127.0.0.1", door.port)) as connection, contextlib.suppress(OSError):
            connection.sendall(request[: draw.randint(1, len(request))])
            time.sleep(draw.random() / 20)
        yield Attempt(f"{door.name} cut {number}: {line}", _answers(door))


def _slow(door: Door) -> Iterator[Attempt]:
    """Open many connections that never complete a request; others must still get responses."""
    with contextlib.ExitStack() as stack:
        opened = [
            stack.enter_context(socket.create_connection(("127.0.0.1", door.port))) for _ in range(SLOW)
        ]
        for round_ in range(3):
            for connection in opened:
                with contextlib.suppress(OSError):
                    connection.sendall(b"GET / HT" if round_ == 0 else b"x")
            yield Attempt(f"{door.name}: {SLOW} slow connections, round {round_}", _answers(door))


def _answers(door: Door) -> str:
    """Return an empty string if the server responds to its own user within two seconds, else the failure."""
    path = "/health" if door.name == "engine" else "/_stcore/health"
    began = time.monotonic()
    status = _status(door, "GET", path, door.own)
    took = time.monotonic() - began
    return "" if status == 200 and took < 2 else f"its user was answered {status} after {took:.1f} s"


class _Memory:
    """Tracks the maximum memory growth of a process, in MiB."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._before = self._most = self._process.memory_info().rss
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.01):
            self._most = max(self._most, self._process.memory_info().rss)

    @property
    def grown(self) -> float:
        return (self._most - self._before) / 2**20


def _blocks(size: int) -> Callable[[], Iterator[bytes]]:
    def blocks() -> Iterator[bytes]:
        for _ in range(size // len(BLOCK)):
            yield BLOCK

    return blocks


def _bodies(door: Door, served: Served) -> Iterator[Attempt]:
    """Send bodies of 1.5 GiB as JSON and of 1 GiB as an upload, and one that claims to have 3 GiB."""
    for path in ("/commands/launch", "/asks/inspect", "/sql"):
        for headers in ({}, {"Content-Length": str(JSON_BYTES)}):
            with _Memory(served.engine.pid) as memory:
                status = _status(door, "POST", path, {**door.own, **headers}, _blocks(JSON_BYTES)())
            yield _bounded(f"1.5 GiB to {path} {headers}", status, 413, memory)
    with _Memory(served.engine.pid) as memory:
        status = _status(door, "PUT", "/uploads/large.bin", door.own, _blocks(UPLOAD_BYTES)())
    kept = served.home.uploads / "large.bin"
    whole = kept.exists() and kept.stat().st_size == UPLOAD_BYTES
    yield _bounded("1 GiB as an upload", status if whole else 0, 200, memory)
    kept.unlink(missing_ok=True)
    with _Memory(served.engine.pid) as memory:
        head = {**door.own, "Content-Length": str(3 * 2**30)}
        status = _status(door, "PUT", "/uploads/larger.bin", head, _blocks(3 * 2**30)())
    yield _bounded("3 GiB as an upload", status, 413, memory)


def _bounded(name: str, status: int, wanted: int, memory: _Memory) -> Attempt:
    failure = "" if status == wanted else f"answered {status}"
    if memory.grown > GROWTH_MIB:
        failure += f" its memory grew by {memory.grown:.0f} MiB"
    return Attempt(f"{name}: +{memory.grown:.0f} MiB", failure)


def _left(served: Served, pids: tuple[int, int]) -> Iterator[Attempt]:
    """Check what is left: no uploaded file, no traceback, and the same two processes."""
    left = [path.name for path in served.home.uploads.iterdir()]
    yield Attempt("uploads that are left", ", ".join(left))
    count = served.tracebacks()
    yield Attempt("tracebacks in the logs", f"{count} of them" if count else "")
    now = served.engine.pid, served.screens.pid
    yield Attempt("the processes are the same", "" if now == pids else f"{pids} became {now}")
    for module in ("engine", "pages"):
        count = len(processes_of(served.home, module))
        yield Attempt(f"processes of {module}", "" if count == 1 else f"{count} of them")
