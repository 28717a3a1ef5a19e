"""Client of the engine for screens, command line and tests: HTTP on loopback, rows as Arrow.

Address and token are read from the home folder, and read again whenever the engine has rewritten them, so
that a client survives restarts of the engine. Before the token is sent to an address, the engine there has
to report that it serves this home folder, so that another program on an old port never sees it. Clients
are thread-safe.

If `TUNEBENCH_TOKEN` is set in the environment, this API token of a person is sent instead of the home
folder's. Its owner does not need access to the home folder: `TUNEBENCH_ENGINE` is then the engine's
address.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pyarrow as pa

from store.core.documents import Document, as_json, get_reviver, parse_document
from store.core.errors import (
    EngineSilent,
    EngineUnavailable,
    QueryError,
    SignedOutError,
    TunebenchError,
    from_dict,
)
from store.core.home import Home
from store.core.model_schemas import Model
from store.core.processes import ProcessRecord, read_record
from store.core.schemas import ErrorDocument, Health, JobLog, MachineReading, OwnAccount, Person, Team
from store.db.named_query import Arguments, Remote
from store.db.query_answers import decode as decode_answer
from store.db.records import decode
from store.http.access import SESSION_HEADER
from store.http.files import sanitise_file_name
from store.http.schemas import PlaygroundState

if TYPE_CHECKING:  # duckdb is slow to import, and the screens don't need it
    from store.db.connection import Params


START = "Start it with the command: tunebench up"
SECONDS = 60.0  # to wait for a response; the engine stops SQL earlier
HEALTH_SECONDS = 5.0
SILENT_SECONDS = 2.0  # an unresponsive engine is not retried for this long: a page makes 20 requests
IDLE_SECONDS = 4  # an idle connection is reused this long
COMMAND_SECONDS = 180.0  # a launch checks every row first
BLOCK_BYTES = 1024 * 1024
TOKEN, ADDRESS = "TUNEBENCH_TOKEN", "TUNEBENCH_ENGINE"  # environment variables


@dataclass(frozen=True)
class _EngineLink:
    """Connection to an engine at an address, and the version of engine.json that it was read from."""

    stamp: tuple[int, int, int]
    http: httpx.Client
    health: Health


@dataclass(frozen=True)
class UserStatements:
    """Statements written by people: the engine runs each in its own process, with a limited number
    of slots.
    """

    client: Client

    def query(self, sql: str, params: Params = ()) -> pa.Table:
        """Return all rows of one read-only statement. Raises QueryError, BusyError if all slots are taken."""
        return self.client._rows(sql, params)


class Client(Remote):
    """Client of the engine of one home folder. Every method raises EngineUnavailable if no engine
    responds.
    """

    def __init__(self, home: Home | None = None, *, secret: Path | None = None) -> None:
        """`secret`: the file with the secret to send; by default the token of the environment or of the home
        folder.
        """
        self.home = home or Home()
        self._secret = secret
        self._own: dict[str, str] = {}  # additional headers of each request
        self._lock = threading.Lock()
        self._link: _EngineLink | None = None
        self._silent: tuple[float, EngineSilent] | None = None  # until when, and the error

    def acting_for(self, session: str) -> Client:
        """Return a client that shares the connections and makes all requests on behalf of a person's
        session.
        """
        return _ActingClient(self, session)

    def answer(self, name: str, arguments: Arguments, returns: Any) -> Any:
        """Return the result of a named query function (`store.db.named_query`) on the engine's store."""
        try:
            body = json.dumps(arguments, default=as_json).encode()
        except (TypeError, ValueError) as error:
            raise QueryError(f"An argument of {name} can't be sent: {error}.") from error
        with self._http() as http:
            response = http.post(f"/queries/{name}", content=body, headers=self._own)
        if response.status_code != 200:
            raise _decode_error(response)
        try:
            return decode_answer(response.content, returns)
        except ValueError as error:  # includes pyarrow's errors
            raise EngineUnavailable("The engine's answer broke off.", fix=START) from error

    @property
    def people(self) -> UserStatements:
        """Runner of statements written by people."""
        return UserStatements(self)

    def _rows(self, sql: str, params: Params) -> pa.Table:
        plain = dict(params) if isinstance(params, Mapping) else list(params)
        try:
            body = json.dumps({"sql": sql, "params": plain}, default=as_json).encode()
        except (TypeError, ValueError) as error:
            raise QueryError(f"A parameter can't be sent: {error}.") from error
        with self._http() as http, http.stream("POST", "/sql", content=body, headers=self._own) as response:
            if response.status_code != 200:
                response.read()
                raise _decode_error(response)
            content, whole = _read_all(response)
        try:
            return decode(content, whole=whole)
        except (pa.ArrowInvalid, OSError) as error:
            raise EngineUnavailable("The engine's answer broke off.", fix=START) from error

    def command(self, name: str, body: Mapping[str, object]) -> Any:
        """Run a command and return its response (`store.http.schemas.CommandAnswer`). Raises the error that
        it is rejected with.
        """
        return self._document("POST", f"/commands/{quote(name, safe='')}", body, COMMAND_SECONDS)

    def ask(
        self, name: str, body: Mapping[str, object], answer: type[Document], timeout: float = SECONDS
    ) -> Document:
        """Return the answer of a short-lived worker as a document of type `answer`; `timeout` in seconds."""
        return parse_document(answer, self._document("POST", f"/asks/{quote(name, safe='')}", body, timeout))

    def upload(self, name: str, file: IO[bytes]) -> str:
        """Upload an open file from its start and return the name under which the engine stores it. Raises
        ConfigError for an invalid name, DataError if the disk is full.
        """
        name = sanitise_file_name(name)
        file.seek(0)
        with self._http() as http:
            path = f"/uploads/{quote(name, safe='')}"
            blocks = iter(lambda: file.read(BLOCK_BYTES), b"")
            response = http.put(path, content=blocks, headers=self._own, timeout=SECONDS)
        return str(_decode_content(response)["upload"])

    def download(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of an exported file in blocks. Raises NotFoundError if there is no such file, and
        EngineUnavailable if the transfer is interrupted.
        """
        path = f"/exports/{quote(name, safe='')}"
        with self._http() as http, http.stream("GET", path, headers=self._own, timeout=SECONDS) as response:
            if response.status_code != 200:
                response.read()
                raise _decode_error(response)
            yield from response.iter_bytes(BLOCK_BYTES)

    def generate(self, body: Mapping[str, object]) -> Iterator[bytes]:
        """Yield the lines of the models' responses while they are generated, each a document. If closed
        early, models that don't respond to a conversation turn stop. Raises the error that the engine
        rejects it with, and EngineUnavailable if the transfer is interrupted.
        """
        content = json.dumps(dict(body)).encode()
        path = "/playground/generate"
        with self._http() as http, http.stream("POST", path, content=content, headers=self._own) as response:
            if response.status_code != 200:
                response.read()
                raise _decode_error(response)
            for line in response.iter_lines():
                yield line.encode() + b"\n"

    def stop_turn(self, turn: str) -> None:
        """Stop the responses to a turn; what was generated so far is kept."""
        self._document("POST", "/playground/stop", {"turn": turn})

    def playground(self) -> PlaygroundState:
        """Return the state of the models loaded for the playground."""
        state = parse_document(PlaygroundState, self._document("GET", "/playground"))
        return state

    def read(self, path: str, returns: type[Document]) -> Document:
        """Return the document at a path, as its type."""
        kind: Any = returns  # mypy doubts that a TypeVar's type is hashable
        revive = get_reviver(kind)
        document: Document = self._document("GET", path)
        return revive(document) if revive else document

    def machine(self) -> MachineReading:
        """Return the resources of the engine's machine and their usage."""
        reading = parse_document(MachineReading, self._document("GET", "/machine"))
        return reading

    def models(self) -> list[Model]:
        """Return the models in the home folder."""
        models = parse_document(list[Model], self._document("GET", "/models"))
        return models

    def me(self) -> Person:
        """Return the requester as identified by the engine. Raises SignedOutError."""
        person = parse_document(Person, self._document("GET", "/me"))
        return person

    def account(self) -> OwnAccount:
        """Return the requester's own account."""
        return self.read("/account", OwnAccount)

    def team(self) -> Team:
        """Return everyone with an account, for admins."""
        return self.read("/team", Team)

    def door(self, name: str, body: Mapping[str, object]) -> Any:
        """Send a request of the sign-in page for people who are not signed in, and return its document."""
        return self._document("POST", f"/door/{quote(name, safe='')}", body)

    def log(self, job_id: str, tail: int = 65_536) -> JobLog:
        """Return the last `tail` bytes of a job's log."""
        log: JobLog = self._document("GET", f"/jobs/{quote(job_id, safe='')}/log?tail={int(tail)}")
        return log

    def health(self) -> Health:
        """Request name, version, pid and home folder of the engine."""
        health: Health = self._document("GET", "/health", timeout=HEALTH_SECONDS)
        self._check(health)
        return health

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        with self._lock:
            if self._link:
                self._link.http.close()
            self._link = None

    def _document(
        self, method: str, path: str, body: Mapping[str, object] | None = None, timeout: float = SECONDS
    ) -> Any:
        content = None if body is None else json.dumps(dict(body), default=as_json).encode()
        with self._http() as http:
            response = http.request(method, path, content=content, headers=self._own, timeout=timeout)
        return _decode_content(response)

    @contextmanager
    def _http(self) -> Iterator[httpx.Client]:
        """Yield a connection pool to the engine; connection errors become EngineUnavailable."""
        http = self._connect()
        try:
            yield http
        except httpx.TimeoutException as error:
            self.close()  # so that the next call first checks whether it responds
            raise self._away("it took too long") from error
        except httpx.TransportError as error:
            raise self._away(str(error)) from error

    def _connect(self) -> httpx.Client:
        with self._lock:
            if self._silent and time.monotonic() < self._silent[0]:
                raise self._silent[1]
            stamp = self._stamp()
            if self._link is None or self._link.stamp != stamp:
                self._link = self._open(stamp)
            return self._link.http

    def _stamp(self) -> tuple[int, int, int]:
        if self._foreign():
            return 0, 0, 0
        try:
            status = os.stat(self.home.engine_file)
        except OSError as error:
            raise _make_not_running_error(self.home) from error
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _open(self, stamp: tuple[int, int, int]) -> _EngineLink:
        """Check who responds at the recorded address, and only then create a pool that sends the token."""
        if address := self._foreign():
            return self._link_to(stamp, address, os.environ[TOKEN])
        try:
            record = read_record(self.home.engine_file)
        except (OSError, ValueError) as error:
            raise EngineUnavailable(f"{self.home.engine_file} can't be read.", fix=START) from error
        if record is None:
            raise _make_not_running_error(self.home)
        if record.is_stopped():  # it would only time out
            raise _make_silent_error(record, "it is halted")
        try:
            token = self._token()
        except (OSError, ValueError) as error:
            raise EngineUnavailable("The engine's token can't be read.", fix=START) from error
        return self._link_to(stamp, record.address, token)

    def _token(self) -> str:
        if self._secret is None and (token := os.environ.get(TOKEN)):
            return token
        return (self._secret or self.home.token).read_text(encoding="utf-8").strip()

    def _foreign(self) -> str:
        """Return the address of an engine whose home folder belongs to another user; empty if it is
        our own.
        """
        if self._secret is not None or not os.environ.get(TOKEN):
            return ""
        return os.environ.get(ADDRESS, "").rstrip("/")

    def _link_to(self, stamp: tuple[int, int, int], address: str, token: str) -> _EngineLink:
        try:  # trust_env off: proxies of the environment must not be used for loopback
            health = _decode_content(httpx.get(f"{address}/health", timeout=HEALTH_SECONDS, trust_env=False))
        except httpx.TimeoutException as error:
            away = self._away("it took too long")
            if isinstance(away, EngineSilent):
                self._silent = time.monotonic() + SILENT_SECONDS, away
            raise away from error
        except httpx.TransportError as error:
            raise self._away(str(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, TunebenchError) as error:
            raise _make_unavailable_error(str(error)) from error
        self._check(health)
        http = httpx.Client(
            base_url=address,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(SECONDS, connect=5),
            limits=httpx.Limits(
                max_connections=64, max_keepalive_connections=16, keepalive_expiry=IDLE_SECONDS
            ),
            trust_env=False,
        )
        return _EngineLink(stamp, http, health)

    def _away(self, reason: str) -> EngineUnavailable:
        """Return the error for a missing response: no engine runs, or it is stopped or too busy."""
        try:
            record = read_record(self.home.engine_file)
        except (OSError, ValueError):
            record = None
        if record is None or record.process() is None:
            return _make_not_running_error(self.home)
        return _make_silent_error(record, reason)

    def _check(self, health: object) -> None:
        if not isinstance(health, dict) or health.get("name") != "tunebench":
            raise _make_unavailable_error("another program answers at its address")
        if not self._foreign() and health.get("home") != str(self.home.path):
            raise _make_unavailable_error(f"the engine at its address serves {health.get('home')}")


class _ActingClient(Client):
    """Client of a signed-in person: another client's connections with its own session header."""

    def __init__(self, client: Client, session: str) -> None:
        super().__init__(client.home, secret=client._secret)
        self._client = client
        self._own = {SESSION_HEADER: session}

    @contextmanager
    def _http(self) -> Iterator[httpx.Client]:
        with self._client._http() as http:
            yield http

    def close(self) -> None:
        """Close the connections, which belong to the other client."""
        self._client.close()


def _make_not_running_error(home: Home) -> EngineUnavailable:
    return EngineUnavailable(f"No engine runs for {home.path}.", fix=START)


def _make_silent_error(record: ProcessRecord, reason: str) -> EngineSilent:
    name = f"The engine (process {record.pid})"
    if record.is_stopped():
        return EngineSilent(
            f"{name} is running but stopped by a signal, so it does not respond.",
            fix=f"Let it go on with the command: kill -CONT {record.pid}",
        )
    return EngineSilent(
        f"{name} is running but does not respond ({reason}).",
        fix="Wait for it, or restart it (runs continue) with: tunebench down && tunebench up",
    )


def _make_unavailable_error(reason: str) -> EngineUnavailable:
    return EngineUnavailable(f"The engine does not respond ({reason}).", fix=START)


def _read_all(response: httpx.Response) -> tuple[bytes, bool]:
    """Return the body as far as it was received, and whether it was complete."""
    chunks: list[bytes] = []
    try:
        for chunk in response.iter_raw():
            chunks.append(chunk)
    except httpx.RemoteProtocolError:
        return b"".join(chunks), False
    return b"".join(chunks), True


def _decode_content(response: httpx.Response) -> Any:
    if response.status_code != 200:
        raise _decode_error(response)
    return response.json()


def _decode_error(response: httpx.Response) -> TunebenchError:
    document: ErrorDocument | None
    try:
        document = response.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        return _make_unavailable_error(f"an answer with status {response.status_code}")
    if response.status_code == 401 and document.get("error") != SignedOutError.__name__:
        return _make_unavailable_error("it refuses the token of the home folder")
    return from_dict(document)
