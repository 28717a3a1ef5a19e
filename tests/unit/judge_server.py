"""A real HTTP server on loopback that answers as a judge would, or as one would not wish it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], bytes]


def completion(text: str | None) -> Answer:
    """HTTP 200 with a chat completion that says `text`."""
    body = {"choices": [{"message": {"role": "assistant", "content": text}}]}
    return 200, {}, json.dumps(body).encode()


def chunk(text: str, logprob: float | None = None, ended: str | None = None) -> dict[str, Any]:
    """A piece of a streamed chat completion, with another token that might have come."""
    content = [{"token": text, "logprob": logprob, "top_logprobs": [{"token": "Ho", "logprob": -2.0}]}]
    return {
        "choices": [
            {
                "delta": {"content": text},
                "finish_reason": ended,
                "logprobs": None if logprob is None else {"content": content},
            }
        ]
    }


def streamed(*chunks: dict[str, Any]) -> Answer:
    """HTTP 200 with a chat completion in pieces."""
    lines = [f"data: {json.dumps(part)}\n\n" for part in chunks]
    return 200, {"Content-Type": "text/event-stream"}, "".join([*lines, "data: [DONE]\n\n"]).encode()


class Judge(ThreadingHTTPServer):
    """`reply(user's message, number of the request from 1)` decides; what came is kept in `requests`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, reply: Callable[[str, int], Answer], delay: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply, self.delay = reply, delay
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Judge

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(body)
            self.server.keys.append(self.headers.get("Authorization"))
            number = len(self.server.requests)
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        time.sleep(self.server.delay)
        status, headers, content = self.server.reply(body["messages"][-1]["content"], number)
        with self.server.lock:
            self.server.at_once -= 1
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # the client has gone
            pass

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""


@contextmanager
def judging(reply: Callable[[str, int], Answer], delay: float = 0.0) -> Iterator[Judge]:
    server = Judge(reply, delay)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
