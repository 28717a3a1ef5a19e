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
