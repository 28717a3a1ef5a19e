"""An address where nothing listens is unreachable, and says since when and what to do, until something
does.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from store.core.documents import parse_document
from store.serving.schemas import EndpointState
from store.serving.text import describe_state
from tests.unit.serving.served_endpoint import ServedEndpoint, backend, route
from tests.unit.serving.test_hostile_backends import address


class _Answering(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": "Here."}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def phase_is(endpoint: ServedEndpoint, phase: str) -> Callable[[], bool]:
    return lambda: bool(endpoint.state() and endpoint.state()["phase"] == phase)


def test_nothing_listens_then_something_does_then_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("THEIRS", "key")
    port = _free_port()
    remote = address("far", f"http://127.0.0.1:{port}")
    endpoint = ServedEndpoint(
        tmp_path / "e", [backend("good", words=["good"]), remote], [route("live", "far")]
    )
    endpoint.config["models"].append({"name": "own", "routes": [route("live", "good")]})
    endpoint.write_config(endpoint.config)
    try:
        endpoint.start()
        endpoint.wait_for(phase_is(endpoint, "failed"))
        state = endpoint.state()
        seen: Any = SimpleNamespace(
            alive=True, wanted="running", state=parse_document(EndpointState, state), problem=None
        )
        assert describe_state(seen) == "unreachable"
        why = f"http://127.0.0.1:{port} is unreachable since "
        assert state["error"]["message"].startswith(why)
        assert state["error"]["message"].endswith("UTC: nothing listens there.")
        assert "Start the server there" in state["error"]["fix"]
        refused = endpoint.post(model="m")
        assert refused.status_code == 503
        assert "unreachable since" in refused.text
        assert endpoint.post(model="own").status_code == 200
        with ThreadingHTTPServer(("127.0.0.1", port), _Answering) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            endpoint.wait_for(phase_is(endpoint, "ready"))
            assert endpoint.state()["error"] is None
            assert endpoint.post(model="m").status_code == 200
            server.shutdown()
    finally:
        endpoint.stop()


def test_a_new_fallback_that_is_down_holds_up_no_config(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("THEIRS", "key")
    port = _free_port()
    endpoint = ServedEndpoint(tmp_path / "e", [backend("good")], [route("live", "good")])
    config = endpoint.config

    def take_force(asked_at: float) -> Any:
        endpoint.write_config(config | {"asked_at": asked_at})
        endpoint.wait_for(lambda: endpoint.state()["asked_at"] == asked_at)
        return {each["backend_id"]: each for each in endpoint.state()["backends"]}

    try:
        endpoint.start()
        config["backends"].append(address("far", f"http://127.0.0.1:{port}"))
        config["models"][0]["routes"].append(route("fallback", "far"))
        first = take_force(1.0)
        assert first["far"]["unreachable_since"] is not None
        assert endpoint.state()["phase"] == "ready"
        config["limits"]["queue"] = 9
        assert take_force(2.0)["far"]["unreachable_since"] == first["far"]["unreachable_since"]
        with ThreadingHTTPServer(("127.0.0.1", port), _Answering) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            endpoint.wait_for(lambda: not any(each["error"] for each in endpoint.state()["backends"]))
            server.shutdown()
    finally:
        endpoint.stop()
