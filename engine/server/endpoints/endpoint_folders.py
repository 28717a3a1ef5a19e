"""The folders of endpoints: what the engine writes into them, and what gateways say in them."""

from __future__ import annotations

import json
import os
import shlex
import threading
from pathlib import Path
from typing import Any

from store.contract.errors import StateError
from store.contract.home import Home
from store.contract.jobdir import read_json, write_json
from store.contract.process_record import ProcessRecord, read_record
from store.db.database import Queryable
from store.documents.serving.endpoint import EndpointConfig
from store.documents.serving.request_line import RequestLine
from store.documents.tables.endpoint_state import EndpointState
from store.queries.serving import endpoint_keys, endpoints

TAIL_BYTES = 256 * 1024
_telling_keys = threading.Lock()


class EndpointFolder:
    """Paths and documents of one endpoint (docs/serving.md)."""

    def __init__(self, home: Home, endpoint_id: str) -> None:
        self.path = home.endpoints / endpoint_id

    def create(self) -> None:
        """Readable by this user alone."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def process(self) -> ProcessRecord | None:
        """The gateway's process, where it is there."""
        try:
            record = read_record(self.path / "gateway.json")
        except (OSError, ValueError):
            return None
        return record if record and record.process() else None

    def tell(self, name: str, document: Any) -> bool:
        """Replace a document where it is another; whether it was."""
        path = self.path / name
        if _read(path) == json.loads(json.dumps(document)):
            return False
        self.create()
        write_json(path, document)
        os.chmod(path, 0o600)
        return True

    def config(self) -> EndpointConfig | None:
        """What the gateway is told; None before it was told anything."""
        config: EndpointConfig | None = _read(self.path / "config.json")
        return config

    def state(self) -> EndpointState | None:
        """How the gateway stands, or stood last."""
        state: EndpointState | None = _read(self.path / "state.json")
        return state

    def failure(self) -> Any:
        """Why a gateway could not start: {"at", "error"}."""
        return _read(self.path / "failed.json")

    def last_requests(self, count: int) -> list[RequestLine]:
        """The newest lines of the log, newest first, as far as the end of its newest file has them."""
        files = sorted((self.path / "log").glob("requests-*.jsonl"))
        if not files:
            return []
        with open(files[-1], "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().split(b"\n")
        whole = lines[1 if size > TAIL_BYTES else 0 : -1]
        return [json.loads(line) for line in reversed(whole[-count:])]

    def log_tail(self) -> str:
        """The last line of what the gateway said."""
        try:
            text = (self.path / "gateway.log").read_bytes()[-4000:].decode("utf-8", "replace").strip()
        except OSError:
            return ""
        return text.splitlines()[-1][:300] if text else ""


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


def check_not_served(db: Queryable, home: Home, folder: Path, what: str) -> None:
    """Raise StateError where an endpoint that is to run uses files in a folder, with the endpoint's name."""
    for row in endpoints.listed(db):
        config = EndpointFolder(home, row["endpoint_id"]).config()
        if row["wanted"] != "running" or config is None:
            continue
        for backend in config["backends"]:
            used = [backend["model"], *(adapter["folder"] for adapter in backend["adapters"])]
            if any(Path(path).is_absolute() and Path(path).is_relative_to(folder) for path in used):
                raise StateError(
                    f"The endpoint {row['name']} serves {what}.",
                    fix=f"Stop it first with: tunebench endpoint stop {shlex.quote(row['name'])}",
                )


def tell_keys(database: Queryable, folder: EndpointFolder) -> None:
    """Have the gateway take the keys that the store has now. Commands and the supervisor do so, one after the
    other: else one that read before a key was made, or revoked, could write after."""
    with _telling_keys:
        keys = endpoint_keys.for_gateway(database, folder.path.name)
        folder.tell("keys.json", {"keys": keys})
