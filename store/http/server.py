"""The engine's HTTP interface (docs/http.md), as a Starlette application; and reading the end of a job's log.

Every request has to use one of our host names and not come from a foreign page (`store.http.access`), and
all but `GET /health` have to come from a person whose role has the right required by the table of rights
(`store.core.rights`); what is not in that table is rejected. Every body has a size limit
(`store.http.request_bodies`, `store.http.files`). Every error response is an error document of
`store.core.errors`. Blocking work runs in threads, SQL with its own limits so that slow statements never
delay a command.
"""

from __future__ import annotations

import contextlib
import difflib
import gc
import hmac
import importlib.metadata
import os
import re
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import anyio
import duckdb
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from store.core.errors import ConfigError, NotFoundError, QueryError, TunebenchError, WrongTokenError
from store.core.home import Home, is_full
from store.core.job_folder import JobDir
from store.core.model_folders import list_models
from store.core.rights import ASKS, OWNER, QUERIES, ROUTES, check_complete, check_right
from store.core.schemas import Health, JobLog, OwnAccount, Person, Right, Team, UploadResult
from store.db.database import Database
from store.db.named_query import NamedQuery, has_sql
from store.db.query_answers import MEDIA_TYPE as ANSWER_TYPE
from store.db.query_answers import encode
from store.db.statements import PLACES, WAITING
from store.http import answers, files
from store.http.access import HostNames
from store.http.answers import ArrowStream, LineStream, make_json_response, stop_on_disconnect
from store.http.machine import Machine
from store.http.request_bodies import read_document
from store.http.schemas import CommandAnswer, PlaygroundState

MAX_TAIL = 16 * 1024 * 1024


def read_tail(database: Database, home: Home, job_id: str, tail: int) -> JobLog:
    """Return the last `tail` bytes (at most MAX_TAIL) of a job's log, from the start of a line; empty if the
    job has not written any.

    Raises NotFoundError if there is no such job.
    """
    jobs = database.query("SELECT 1 FROM job WHERE job_id = ?", [job_id])
    if not len(jobs) or not re.fullmatch(r"[\w-][\w.-]*", job_id):
        raise NotFoundError(f"There is no job {job_id!r}.")
    try:
        with open(JobDir(home.jobs / job_id).log, "rb") as file:
            size = file.seek(0, 2)
            start = max(0, size - min(tail, MAX_TAIL))
            file.seek(start)
            end = file.read(size - start)
    except FileNotFoundError:
        return {"text": "", "bytes": 0, "shown_bytes": 0}
    if start and b"\n" in end:
        end = end[end.index(b"\n") + 1 :]
    return {"text": end.decode("utf-8", "replace"), "bytes": size, "shown_bytes": len(end)}


Commands = Mapping[str, Callable[[Mapping[str, object], Person], CommandAnswer]]
Asks = Callable[[str, Mapping[str, object], Person], Awaitable[Any]]  # returns the document of that ask
Who = Callable[[Mapping[bytes, bytes]], Awaitable[Person]]  # from the headers of a request


class PeopleService(Protocol):
    """Accounts as managed by the engine (`engine.server.identity`)."""

    async def who(self, headers: Mapping[bytes, bytes]) -> Person:
        """Return the requester, or raise an error that says why there is none."""
        ...

    def is_door(self, headers: Mapping[bytes, bytes]) -> bool:
        """Return whether the request is from the sign-in page of the screens, for people who are not signed
        in.
        """
        ...

    @property
    def door(self) -> Mapping[str, Callable[[Mapping[str, object]], object]]:
        """Requests available to the sign-in page, by name."""
        ...

    def account(self, person: Person) -> OwnAccount: ...

    def team(self) -> Team: ...


Lines = AsyncGenerator[bytes, None]  # of the playground's stream, each a document


class Playground(Protocol):
    """The service that generates responses in the playground."""

    async def generate(self, body: Mapping[str, object], person: Person) -> Lines:
        """Return the lines of the responses. If closed early, generation stops for responses that are not
        saved.
        """

    async def stop(self, body: Mapping[str, object]) -> None:
        """Stop the given turn if it is in progress."""

    def state(self) -> PlaygroundState:
        """Return the state of the loaded models."""


class EndpointService(Protocol):
    """State of endpoints."""

    def list_status(self) -> Sequence[Mapping[str, object]]:
        """Return all endpoints."""
        ...

    def list_last_requests(self, endpoint: str) -> Sequence[Mapping[str, object]]:
        """Return the newest lines of an endpoint's log. Raises NotFoundError."""
        ...


@dataclass(frozen=True)
class Handlers:
    """Handlers of requests: commands run in a thread each, asks are awaited; both take and return documents.
    `queries` are the named query functions (`store.db.named_query`). `who` returns the requester or
    raises; by default `people` does, and without both the holder of the token is the owner.
    """

    commands: Commands
    asks: Asks
    playground: Playground | None = None
    queries: Mapping[str, NamedQuery] = field(default_factory=dict)
    who: Who | None = None
    people: PeopleService | None = None
    endpoints: EndpointService | None = None


def authenticate_by_token(token: str) -> Who:
    """Return an authentication that accepts the token's holder as the owner."""
    expected = f"Bearer {token}".encode()

    async def who(headers: Mapping[bytes, bytes]) -> Person:
        if not hmac.compare_digest(headers.get(b"authorization", b""), expected):
            raise WrongTokenError()
        return OWNER

    return who


QUERIES_AT_ONCE = 8
TAIL_BYTES = 65_536
ALIKE = 5  # number of similar names suggested for an unknown one
LOGIN_BYTES = 64 * 1024
BODY_BYTES = 8 * 2**20  # of a command, a query, or a statement with its parameters
Endpoint = Callable[[Request], Awaitable[Response]]


def build_app(
    database: Database,
    token: str,
    handlers: Handlers,
    home: Home,
    devices: Sequence[str],
    names: HostNames | None = None,
) -> Starlette:
    """Build the application. `names` are the accepted host names, by default those of loopback.

    Also sets how this process switches between threads: see `_shorten_switch_interval`.
    """
    _shorten_switch_interval()
    engine = _EngineRoutes(database, handlers, home, devices)
    people = handlers.people
    who = handlers.who or (people.who if people else authenticate_by_token(token))
    routes: dict[str, Endpoint] = {
        **_AccountRoutes(people).routes(),
        "GET /health": engine.health,
        "POST /sql": engine.sql,
        "POST /queries/{name}": engine.query,
        "POST /commands/{name}": engine.command,
        "POST /asks/{name}": engine.ask,
        "PUT /uploads/{name:path}": engine.upload,
        "GET /me": engine.me,
        "GET /playground": engine.playground_state,
        "POST /playground/generate": engine.generate,
        "POST /playground/stop": engine.stop_turn,
        "GET /machine": engine.machine,
        "GET /models": engine.models,
        "GET /endpoints": engine.endpoints,
        "GET /endpoints/{endpoint}/requests": engine.endpoint_requests,
        "GET /jobs/{job_id}/log": engine.log,
        "GET /exports/{name:path}": engine.export,
    }
    check_complete("route", routes)
    return Starlette(
        routes=[_guard_route(place, endpoint) for place, endpoint in routes.items()],
        middleware=[Middleware(_AccessMiddleware, names=names or HostNames(), who=who, people=people)],
        exception_handlers={
            TunebenchError: answers.make_error_response,
            HTTPException: answers.respond_no_such_route,
            ClientDisconnect: answers.respond_hung_up,
        },
    )


def _guard_route(place: str, endpoint: Endpoint) -> Route:
    """Return the route for a method and path, such as `GET /machine`, open only to roles with its right."""
    method, _, path = place.partition(" ")
    needs = ROUTES[place]
    anybody = needs in ("nobody", "door", "name")  # the middleware checks the door; a name has its own right

    async def answer(request: Request) -> Response:
        if not anybody:
            check_right(_get_person(request), cast(Right, needs))
        return await endpoint(request)

    return Route(path, answer, methods=[method])


def _shorten_switch_interval() -> None:
    """Let requests run while another thread ingests metrics (measured by bench/load/engine.py).

    A request takes the GIL three or four times, which adds up with Python's switch interval of 5 ms.
    Events are trees of dicts without cycles, so frequent garbage collection only delays everyone.
    """
    sys.setswitchinterval(0.001)
    gc.set_threshold(50_000, 20, 50)


class _EngineRoutes:
    """Routes of the engine."""

    def __init__(self, database: Database, handlers: Handlers, home: Home, devices: Sequence[str]) -> None:
        self._database, self._home = database, home
        self._commands, self._asks, self._playground = handlers.commands, handlers.asks, handlers.playground
        self._queries, self._desk = handlers.queries, handlers.endpoints
        self._machine = Machine(home.path, devices)
        self._query_places = anyio.CapacityLimiter(QUERIES_AT_ONCE)
        self._statements = anyio.CapacityLimiter(PLACES + WAITING)

    async def health(self, request: Request) -> Response:
        version = importlib.metadata.version("tunebench")
        health: Health = {
            "name": "tunebench",
            "version": version,
            "pid": os.getpid(),
            "home": str(self._home.path),
        }
        return make_json_response(health)

    async def sql(self, request: Request) -> Response:
        """Run a statement written by a person, in its own process."""
        return ArrowStream(self._database.written(*await _parse_statement(request)), self._statements)

    async def query(self, request: Request) -> Response:
        """Run a named query function in the engine, with its own concurrency limit."""
        name, person = request.path_params["name"], _get_person(request)
        query = self._queries.get(name)
        if query is None:
            raise NotFoundError(f"There is no query {name!r}.", fix="store.core.rights has all of them.")
        check_right(person, QUERIES.get(name))
        body = await read_document(request, BODY_BYTES, "a query")
        reads = self._database.reads()

        def answer() -> bytes:
            checked = query.check(reads, body, person)
            reads.written = has_sql(checked)
            return encode(query.run(reads, checked))

        async with stop_on_disconnect(request.receive, reads.close):
            content = await run_sync(answer, limiter=self._query_places)
        return Response(content, media_type=ANSWER_TYPE)

    async def command(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._commands:
            alike = difflib.get_close_matches(name, self._commands, ALIKE, cutoff=0.5)
            fix = f"Did you mean {' or '.join(alike)}?" if alike else "docs/http.md has all of them."
            raise NotFoundError(f"There is no command {name!r}.", fix=fix)
        body = await read_document(request, BODY_BYTES, f"the command {name}")
        with self._room():
            return make_json_response(await run_sync(self._commands[name], body, _get_person(request)))

    async def ask(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ASKS:
            raise NotFoundError(f"There is no ask {name!r}.", fix=f"There are: {', '.join(sorted(ASKS))}.")
        check_right(_get_person(request), ASKS[name])
        body = await read_document(request, BODY_BYTES, "an ask")
        with self._room():
            return make_json_response(await self._asks(name, body, _get_person(request)))

    async def generate(self, request: Request) -> Response:
        """Stream the models' responses while they are generated, one JSON object per line."""
        body = await read_document(request, BODY_BYTES, "what is said")
        with self._room():
            return LineStream(await self._talk().generate(body, _get_person(request)))

    async def stop_turn(self, request: Request) -> Response:
        await self._talk().stop(await read_document(request, BODY_BYTES, "the turn to stop"))
        return make_json_response({})

    async def playground_state(self, request: Request) -> Response:
        return make_json_response(await run_sync(self._talk().state))

    def _talk(self) -> Playground:
        if self._playground is None:
            raise NotFoundError("This engine has no playground.")
        return self._playground

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        """Convert any error caused by a full disk to one that says so."""
        try:
            yield
        except (OSError, duckdb.Error) as error:
            if not is_full(error):
                raise
            raise self._home.no_room() from error

    async def upload(self, request: Request) -> Response:
        name = await files.save(self._home.uploads, request.path_params["name"], request)
        uploaded: UploadResult = {"upload": name}
        return make_json_response(uploaded)

    async def me(self, request: Request) -> Response:
        return make_json_response(_get_person(request))

    async def endpoints(self, request: Request) -> Response:
        return make_json_response(await run_sync(self._endpoint_desk().list_status))

    async def endpoint_requests(self, request: Request) -> Response:
        """Return the last requests of an endpoint, including what people wrote."""
        return make_json_response(
            await run_sync(self._endpoint_desk().list_last_requests, request.path_params["endpoint"])
        )

    def _endpoint_desk(self) -> EndpointService:
        if self._desk is None:
            raise NotFoundError("This engine has no endpoints.")
        return self._desk

    async def machine(self, request: Request) -> Response:
        return make_json_response(await run_sync(self._machine.read))

    async def models(self, request: Request) -> Response:
        return make_json_response(await run_sync(list_models, self._home.models))

    async def export(self, request: Request) -> Response:
        path = await run_sync(files.find, self._home.exports, request.path_params["name"])
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    async def log(self, request: Request) -> Response:
        text = request.query_params.get("tail", str(TAIL_BYTES))
        if not (text.isascii() and text.isdigit()):
            raise ConfigError(f"tail is {text!r}: give a number of bytes.", field="tail")
        return make_json_response(
            await run_sync(read_tail, self._database, self._home, request.path_params["job_id"], int(text))
        )


class _AccountRoutes:
    """Routes for accounts."""

    def __init__(self, people: PeopleService | None) -> None:
        self._people = people

    def routes(self) -> dict[str, Endpoint]:
        return {"POST /door/{name}": self.door, "GET /account": self.account, "GET /team": self.team}

    async def door(self, request: Request) -> Response:
        name, desk = request.path_params["name"], self._desk()
        if name not in desk.door:
            raise NotFoundError(f"The door can't ask for {name!r}.")
        body = await read_document(request, LOGIN_BYTES, "what the door asks")
        return make_json_response(await run_sync(desk.door[name], body))

    async def account(self, request: Request) -> Response:
        return make_json_response(await run_sync(self._desk().account, _get_person(request)))

    async def team(self, request: Request) -> Response:
        return make_json_response(await run_sync(self._desk().team))

    def _desk(self) -> PeopleService:
        if self._people is None:
            raise NotFoundError("This engine has no accounts.")
        return self._people


class _AccessMiddleware:
    """Accepts requests to our own host names from a person, or from the sign-in page for what only it may
    request. Whether a person's role allows a request is checked by its handler. All responses, including
    those to failures, pass through here and get the headers for browsers.
    """

    def __init__(self, app: ASGIApp, names: HostNames, who: Who, people: PeopleService | None) -> None:
        self._app, self._names, self._who, self._people = app, names, who, people

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = answers.wrap_with_headers(send)
        if problem := await self._problem(scope):
            await make_json_response(problem[1].to_dict(), problem[0])(scope, receive, send)
            return
        async with answers.report_failures(scope, receive, send) as send_noted:
            await self._app(scope, receive, send_noted)

    async def _problem(self, scope: Scope) -> tuple[int, TunebenchError] | None:
        if wrong := self._names.problem(scope):
            return 403, TunebenchError(wrong)
        if scope["path"] == "/health":
            return None
        return await self._problem_of_person(scope, dict(scope["headers"]))

    async def _problem_of_person(
        self, scope: Scope, headers: Mapping[bytes, bytes]
    ) -> tuple[int, TunebenchError] | None:
        try:
            if scope["path"].startswith("/door/"):
                if self._people is None or not self._people.is_door(headers):
                    raise WrongTokenError()
                return None
            scope["person"] = await self._who(headers)
        except TunebenchError as error:
            return error.status, error
        return None


def _get_person(request: Request) -> Person:
    """Return the requester, as identified by the middleware."""
    person: Person = request.scope["person"]
    return person


async def _parse_statement(request: Request) -> tuple[str, list[Any] | dict[str, Any]]:
    body = await read_document(request, BODY_BYTES, "a statement")
    sql, params = body.get("sql"), body.get("params", [])
    if not isinstance(sql, str) or not isinstance(params, list | dict):
        raise QueryError('A query is {"sql": text, "params": [values]}.')
    return sql, params
