"""An endpoint's folder and its gateway as a process, for tests and benches."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from store.core.job_folder import write_json
from store.serving.schemas import EndpointConfig, EndpointRoute, GatewayKey, RouteRole, ServedBackend

ROOT = Path(__file__).resolve().parents[3]
KEY = "tbe_test"


def backend(backend_id: str, **does: Any) -> ServedBackend:
    """A stub that behaves as `does` says."""
    return ServedBackend(
        backend_id=backend_id, engine="worker", model=json.dumps(does), adapters=[],
        names=["base"], dtype="auto", threads=None, max_streams=does.get("max_streams", 8),
        max_tokens=64, most_answer=64, context=None, labels=None, url=None, key_env=None,
        capabilities=None,
    )  # fmt: skip


def route(role: RouteRole, backend_id: str, share: float = 1.0, version: str = "") -> EndpointRoute:
    return EndpointRoute(
        subject="m@production", version=version or f"{backend_id}@1", role=role, share=share,
        backend_id=backend_id, asked_as="base",
    )  # fmt: skip


def key_of(secret: str = KEY, **quotas: int) -> GatewayKey:
    return GatewayKey(
        key_id=f"key-{secret}", sha256=hashlib.sha256(secret.encode()).hexdigest(), person_id="ada",
        requests_per_minute=quotas.get("requests"), tokens_per_day=quotas.get("tokens"),
    )  # fmt: skip


class ServedEndpoint:
    """One folder, and what runs for it: a gateway whose backends are played, unless another is named."""

    gateway = "tests.unit.serving.stubbed_gateway"
    patience = 20.0  # seconds until it is up

    def __init__(
        self, folder: Path, backends: list[ServedBackend], routes: list[dict[str, Any]], **limits: Any
    ) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        sampled = {"sample": limits.pop("sample", 1.0), "redact": limits.pop("redact", False), "days": 30}
        usual = {
            "body_bytes": 65536, "max_tokens": 64, "seconds": 20.0, "queue": 64, "shadow_queue": 8,
            "drain_seconds": 10.0,
        }  # fmt: skip
        self.config: Any = {
            "endpoint_id": "e1", "name": "m", "asked_at": 0.0, "home": str(folder),
            "host": "127.0.0.1", "port": 0,
            "allow_host": [], "models": [{"name": "m", "routes": routes}], "backends": backends,
            "limits": usual | limits, "log": sampled,
        }  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        self.write_config(self.config)
        self.write_keys([key_of()])

    def write_config(self, config: EndpointConfig) -> None:
        write_json(self.folder / "config.json", config)

    def write_keys(self, keys: list[GatewayKey]) -> None:
        write_json(self.folder / "keys.json", {"keys": keys})

    def start(self, *, keep_state: bool = False) -> None:
        state = self.folder / "state.json"
        begun = self.state().get("started_at") if keep_state else None
        if not keep_state:
            state.unlink(missing_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", self.gateway, str(self.folder)]
        with open(self.folder / "gateway.log", "ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        self.wait_for(lambda: self.state().get("started_at", begun) != begun, self.patience)
        self.wait_for(self._answers, self.patience)

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError, KeyError, OSError):
            self.address = json.loads((self.folder / "gateway.json").read_text())["address"]
            return httpx.get(f"{self.address}/ready", timeout=5).status_code in (200, 503) and not any(
                entry["phase"] == "starting" for entry in self.state()["backends"]
            )
        return False

    def wait_for(self, ready: Any, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not ready():
            assert self.process is None or self.process.poll() is None, self.log_text()
            assert time.monotonic() < end, self.log_text() + json.dumps(self.state(), indent=1)
            time.sleep(0.03)

    def log_text(self) -> str:
        return (self.folder / "gateway.log").read_text()

    def state(self) -> Any:
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.folder / "state.json").read_text())
        return {"backends": [], "routes": []}

    def lines(self, name: str = "requests") -> list[Any]:
        files = sorted((self.folder / "log").glob(f"{name}-*.jsonl"))
        return [json.loads(line) for path in files for line in path.read_text().splitlines()]

    def seen(self, backend_id: str) -> Any:
        """What a stub was asked."""
        spec = json.loads((self.folder / "backends" / backend_id / "spec.json").read_text())
        with httpx.Client(transport=httpx.HTTPTransport(uds=spec["socket"])) as http:
            return http.get("http://stub/seen").json()

    def stop(self) -> int:
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()

    def post(self, path: str = "chat/completions", key: str = KEY, **body: Any) -> httpx.Response:
        usual = (
            {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
            if path == "chat/completions"
            else {}
        )
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.post(f"{self.address}/v1/{path}", json=usual | body, headers=headers, timeout=20)


@contextlib.contextmanager
def served(
    folder: Path, backends: list[ServedBackend], routes: list[dict[str, Any]], **limits: Any
) -> Iterator[ServedEndpoint]:
    endpoint = ServedEndpoint(folder, backends, routes, **limits)
    endpoint.start()
    try:
        yield endpoint
    finally:
        endpoint.stop()
