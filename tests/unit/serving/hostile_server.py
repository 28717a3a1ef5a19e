"""A server of models that means harm, for tests and benches: by the name of a model in a request it behaves.

One that is asked for a name which is no behaviour answers well.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator

MB = 10**6
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
EVENTS = HEAD.replace(b"application/json", b"text/event-stream") + b"Connection: close\r\n\r\n"
WORD = b'data: {"choices": [{"index": 0, "delta": {"content": "x"}}]}\n\n'
WHOLE = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "mine"}}]}'
LINK_LOCAL = b"Location: http://169.254.169.254/latest/meta-data/\r\n"
KEY = "secret-of-the-owner"
DAMAGED = "damaged-"  # and a seed: a good answer, damaged
Piece = bytes | float  # what is sent, or how long nothing is


def whole(body: bytes, head: bytes = HEAD) -> list[Piece]:
    """An answer with its length."""
    return [head + b"Content-Length: %d\r\n\r\n" % len(body) + body]


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


def status(line: bytes, *headers: bytes) -> Callable[[], list[Piece]]:
    return lambda: [b"HTTP/1.1 " + line + b"\r\n" + b"".join(headers) + b"Content-Length: 2\r\n\r\n{}"]


def for_ever(piece: bytes, first: bytes = b"") -> Iterator[Piece]:
    """Until the other side hangs up."""
    yield first
    many = piece * max(1, 65_536 // len(piece))
    while True:
        yield many


def slowly(content: bytes) -> Iterator[Piece]:
    """A byte a second."""
    for place in range(len(content)):
        yield content[place : place + 1]
        yield 1.0


def garbage() -> list[Piece]:
    return [random.Random(1).randbytes(10_000) + b"\r\n\r\n"]


BEHAVIOURS: dict[str, Callable[[], Iterator[Piece] | list[Piece]]] = {
    "hangs": lambda: [3600.0],
    "hangs-after-its-head": lambda: [CHUNKED, 3600.0],
    "a-byte-a-second": lambda: slowly(whole(WHOLE)[0]),  # type: ignore[arg-type]
    "a-byte-of-body-a-second": lambda: (piece for piece in (CHUNKED, *slowly(chunk(b" " * 99)))),
    "100-mb": lambda: [HEAD + b"Content-Length: %d\r\n\r\n" % (100 * MB), *[b" " * MB] * 100],
    "100-mb-in-one-chunk": lambda: [CHUNKED + b"%x\r\n" % (100 * MB), *[b" " * MB] * 100, b"\r\n0\r\n\r\n"],
    "100-mb-without-length": lambda: [HEAD + b"Connection: close\r\n\r\n", *[b" " * MB] * 100],
    "15-mb-of-lists": lambda: whole(b'{"a": [' + b"[]," * (5 * MB) + b"[]]}"),
    "chunks-of-a-byte": lambda: for_ever(chunk(b" "), CHUNKED),
    "a-chunk-of-minus-one": lambda: [CHUNKED + b"-1\r\n" + b"x" * 100, 0.1],
    "trailers-without-end": lambda: for_ever(b"X: y\r\n", CHUNKED + chunk(WHOLE) + b"0\r\n"),
    "another-type": lambda: whole(b"<html>Hello</html>", HEAD.replace(b"application/json", b"text/html")),
    "garbage": garbage,
    "no-status": lambda: [b"HTTP/1.1\r\n\r\n"],
    "a-status-of-words": lambda: [b"HTTP/1.1 two hundred\r\n\r\n"],
    "interim-without-end": lambda: for_ever(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "events-without-end": lambda: for_ever(WORD, EVENTS),
    "an-event-without-end": lambda: for_ever(b"data: x\n", EVENTS),
    "a-line-without-end": lambda: for_ever(b"x" * 1000, EVENTS + b"data: "),
    "comments-without-end": lambda: for_ever(b": hello\n\n", EVENTS),
    "closes-in-mid-answer": lambda: [HEAD + b"Content-Length: 1000\r\n\r\n" + WHOLE],
    "closes-at-once": lambda: [],
    "closes-in-mid-event": lambda: [EVENTS + WORD[:20]],
    "500": status(b"500 Internal Server Error"),
    "503-with-100-mb": lambda: [b"HTTP/1.1 503 No\r\nConnection: close\r\n\r\n", *[b"x" * MB] * 100],
    "redirects": status(b"302 Found", LINK_LOCAL),
    "redirects-for-good": status(b"308 Permanent Redirect", LINK_LOCAL),
    "switches": status(b"101 Switching Protocols"),
    "204": lambda: [b"HTTP/1.1 204 No Content\r\n\r\n"],
    "999": status(b"999 What"),
    "401": status(b"401 Unauthorized"),
    "a-header-of-a-mb": status(b"200 OK", b"X: " + b"x" * MB + b"\r\n"),
    "100000-headers": status(b"200 OK", *[b"X: y\r\n"] * 100_000),
    "no-json": lambda: whole(b"{" * 100),
    "a-list": lambda: whole(b"[1]"),
    "100000-levels": lambda: whole(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "half-a-character": lambda: whole(WHOLE.replace(b"mine", b"\\ud800")),
    "an-event-that-fails": lambda: [EVENTS + b'data: {"error": {"message": "%s"}}\n\n' % KEY.encode()],
}  # fmt: skip
# Of these a caller gets what the backend says.
PASSED_ON: dict[str, Callable[[], Iterator[Piece] | list[Piece]]] = {
    "429": status(b"429 Too Many Requests", b"Retry-After: 7\r\n"),
    "429-with-a-header-in-a-header": status(b"429 No", b"Retry-After: 7\nX-Theirs: yes\r\n"),
    "400-with-the-key": lambda: whole(b'{"error": "%s"}' % KEY.encode(), HEAD.replace(b"200 OK", b"400 Bad")),
    "goes-on-after-its-end": lambda: for_ever(b"data: {}\n\n", EVENTS + WORD + b"data: [DONE]\n\n"),
}


def damaged(seed: str) -> list[Piece]:
    """A good answer, whole or as events, of which some bytes are others, missing or doubled."""
    draw = random.Random(seed)
    content = bytearray(draw.choice([whole(WHOLE)[0], EVENTS + 3 * WORD + b"data: [DONE]\n\n"]))
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(len(content))
        end = place + draw.choice([0, 1, 1, 1, 8])
        content[place:end] = draw.choice([b"", draw.randbytes(1), bytes(content[place : place + 20])])
    return [bytes(content)]


def pieces_of(name: str) -> Iterator[Piece] | list[Piece]:
    """What a model of this name sends."""
    if name.startswith(DAMAGED):
        return damaged(name)
    return (BEHAVIOURS | PASSED_ON).get(name, lambda: whole(WHOLE))()


class HostileServer(socketserver.ThreadingTCPServer):
    """`with HostileServer() as server:` answers at `server.url`."""

    daemon_threads, allow_reuse_address, request_queue_size = True, True, 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> HostileServer:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()


class _Answer(socketserver.StreamRequestHandler):
    server: HostileServer

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while (body := self._request()) is not None:
                name = body["model"]
                for piece in pieces_of(name):
                    if isinstance(piece, float):
                        self._wait(piece)
                    else:
                        self.connection.sendall(piece)
                if name in BEHAVIOURS or name in PASSED_ON or name.startswith(DAMAGED):
                    return

    def _request(self) -> dict[str, str] | None:
        length = 0
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        content = self.rfile.read(length)
        return json.loads(content) if content else None

    def _wait(self, seconds: float) -> None:
        """Or until the other side hangs up, or the server ends."""
        self.connection.settimeout(0.1)
        while seconds > 0 and not self.server.ended.wait(0.0):
            try:
                if self.connection.recv(1, socket.MSG_PEEK) == b"":
                    raise ConnectionResetError
            except TimeoutError:
                seconds -= 0.1
        self.connection.settimeout(None)
