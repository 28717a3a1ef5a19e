"""An endpoint: what its folder says to its gateway (`config.json`, `keys.json`), and a row of its table."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from store.documents.serving.backend import LabelSettings, ServedAdapter
from store.documents.serving.capabilities import Capabilities

RouteRole = Literal["live", "candidate", "shadow", "fallback"]


class BackendContent(TypedDict):
    """What answers. One of a kind other than `remote` is a process that the gateway starts."""

    engine: Literal["worker", "llama.cpp", "remote"]
    model: str  # a folder, a model of the home folder, a hub id; of `remote` the name that it is asked for
    adapters: list[ServedAdapter]
    names: list[str]  # that the base answers to
    dtype: Literal["auto", "bfloat16", "float32"]
    threads: int | None
    max_streams: int  # requests at once; others wait
    max_tokens: int  # of prompts and answers in its memory at once
    most_answer: int  # tokens of an answer for which the request names no number
    context: int | None  # tokens; null: the model's own
    labels: LabelSettings | None
    url: str | None  # of `remote`: https://HOST/v1
    key_env: str | None  # of `remote`: the variable of the environment that has its key
    capabilities: Capabilities | None  # of `remote`: as the user stated them


class ServedBackend(BackendContent):
    """The same with its id."""

    backend_id: str  # by its content: the same backend is started once


class EndpointRoute(TypedDict):
    """Where requests go, and how many of them."""

    subject: str  # as a person wrote it: NAME@production, a run, a folder, an address
    version: str  # what that is now: NAME@3, the run's name
    role: RouteRole
    share: float  # of a candidate: of the requests; of a shadow: of them that are copied; else 1
    backend_id: str
    asked_as: str  # the name by which the backend is asked: of its base or of an adapter


class ServedModel(TypedDict):
    """A name that callers may ask for, and where they get to."""

    name: str
    routes: list[EndpointRoute]


class EndpointLimits(TypedDict):
    """What one request may cost, and how many wait."""

    body_bytes: int
    max_tokens: int  # of an answer: that a request may ask for, and of one that names none
    seconds: float  # for a whole answer
    queue: int  # requests that wait for a backend; more are refused with 429
    shadow_queue: int  # copies that wait; more are dropped, and counted
    drain_seconds: float  # for answers under way when the endpoint stops


class EndpointLog(TypedDict):
    """What is kept of requests."""

    sample: float  # share of the requests whose texts are kept; a line is kept of every one
    redact: bool  # personal data and secrets are taken out of kept texts
    days: int  # that files are kept


class EndpointConfig(TypedDict):
    """`config.json`: all that the gateway is told. It takes a new one while it runs."""

    endpoint_id: str
    name: str
    asked_at: float  # s since 1970: when it was last asked to run; what did not start is tried again then
    home: str
    host: str
    port: int
    allow_host: list[str]
    networks: NotRequired[list[str]]  # private ones that an admin allowed, in which an address may be
    models: list[ServedModel]
    backends: list[ServedBackend]
    limits: EndpointLimits
    log: EndpointLog


class GatewayKey(TypedDict):
    """A key in `keys.json`. Its secret is known by its SHA-256 alone."""

    key_id: str
    sha256: str
    person_id: str
    requests_per_minute: int | None
    tokens_per_day: int | None


class GatewayKeys(TypedDict):
    """`keys.json`: whoever has one of them may ask."""

    keys: list[GatewayKey]


class EndpointKey(TypedDict):
    """A key as people see it."""

    key_id: str
    endpoint_id: str
    person_id: str
    person_name: str
    name: str
    requests_per_minute: int | None
    tokens_per_day: int | None
    created_at: float  # s since 1970, as all times here
    used_at: float | None
    revoked_at: float | None


class EndpointRow(TypedDict):
    """A row of the table `endpoint`."""

    endpoint_id: str
    name: str
    wanted: Literal["running", "stopped"]
    wanted_at: float  # s since 1970: when somebody last said so
    settings: dict[str, object]  # store.config.serving.endpoint_config.EndpointSettings
    created_by: str
    created_by_name: str
    created_at: float  # s since 1970


class EndpointMade(TypedDict):
    """The answer of `make_endpoint`; the key is shown this once, and null where none was asked for."""

    endpoint_id: str
    name: str
    key: str | None


class EndpointKeyMade(TypedDict):
    """The answer of `make_key`: the only time that the key can be read."""

    key_id: str
    key: str
