"""`state.json`: how a gateway stands. It writes it every other second; an old one is of a gateway that
died."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from store.documents.serving.capabilities import Capabilities
from store.documents.serving.endpoint import EndpointConfig, EndpointKey, EndpointRow, RouteRole
from store.documents.tables.job import ErrorDocument


class BackendState(TypedDict):
    """One backend, as the gateway sees it."""

    backend_id: str
    engine: str
    model: str
    phase: Literal["starting", "ready", "failed", "stopped"]
    error: ErrorDocument | None  # why it did not start, or ended
    seconds: float | None  # that it took to start
    starts: int
    running: int  # requests that it answers
    waiting: int  # requests that wait for it
    capabilities: Capabilities | None
    unreachable_since: NotRequired[float | None]  # s since 1970: nothing listens at its address


class RouteState(TypedDict):
    """One route, since the gateway started."""

    model: str
    version: str
    role: RouteRole
    share: float
    backend_id: str
    requests: int
    errors: int
    dropped: int  # of a shadow: copies that were not made, as too many waited or it can't do what was asked
    p95_seconds: float | None  # of the last hour
    n: int  # requests that this rests on


class KeyUse(TypedDict):
    """What a key has used today."""

    key_id: str
    day: str  # in UTC
    tokens: int
    requests: int
    used_at: float  # s since 1970


class LogPlace(TypedDict):
    """Where a log ended."""

    number: int  # of its file
    size: int  # of that, bytes


class LastHour(TypedDict):
    """All requests of the last hour."""

    requests: int
    errors: int  # that failed: status 5xx
    refused: int  # status 4xx, of them
    p95_seconds: float | None
    n: int  # answers that the p95 rests on
    tokens: int


class EndpointState(TypedDict):
    """How the gateway stands."""

    endpoint_id: str
    pid: int
    started_at: float
    at: float
    asked_at: float  # of the newest config that took force, or could not
    address: str  # http://HOST:PORT
    phase: Literal["starting", "ready", "failed", "draining"]
    error: ErrorDocument | None
    switching: str  # what a new config waits for, in words; empty where none does
    backends: list[BackendState]
    routes: list[RouteState]
    keys: list[KeyUse]
    counted: NotRequired[LogPlace]  # up to where the log's requests are in `keys`
    hour: LastHour
    active: int  # requests under way
    fallbacks: int  # answers that the fallback gave
    lines: int  # that were written to the log
    lines_lost: int  # that could not be written: a full disk
    log_error: str  # why, of the last one


class EndpointSeen(EndpointRow):
    """An endpoint as the engine sees it: what is wanted, and what there is."""

    alive: bool  # its gateway's process is there
    state: EndpointState | None  # null: no gateway has told yet
    config: EndpointConfig | None  # that its gateway is told
    problem: ErrorDocument | None  # why it is not as wanted
    keys: list[EndpointKey]
