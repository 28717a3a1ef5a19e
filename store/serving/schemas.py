"""Endpoints: files for the gateway, backend specs and capabilities, gateway state, and log lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict

from store.core.schemas import ErrorDocument, JsonObject


@dataclass(kw_only=True)
class Capabilities:
    """Capabilities of a backend, which has an OpenAI-compatible API on a Unix socket of its own or
    at a URL.
    """

    engine: str  # worker, llama.cpp, remote
    version: str
    kinds: list[Literal["chat", "completion", "decision", "labels", "embedding"]]
    fields: list[str]  # supported request fields, besides model, messages, prompt and input
    context: int | None  # tokens
    template: bool  # whether it has a chat template
    models: list[str]  # names of its models


@dataclass(kw_only=True)
class ServedAdapter:
    """An adapter on the base model."""

    name: str  # model name in requests
    folder: str


@dataclass(kw_only=True)
class LabelSettings:
    """Settings for the probabilities of a classifier or of a decision."""

    temperature: float  # divisor of the scores; 1 leaves them unchanged
    threshold: float | None  # minimum confidence for a label


class BackendSpec(TypedDict):
    """`SPEC.json`, for `python -m engine.serving.backend`."""

    engine: Literal["worker", "llama.cpp"]
    socket: str  # path of the Unix socket to listen on
    model: str  # a folder, a name in the home folder or a hub id; for llama.cpp a GGUF file
    home: str
    adapters: list[ServedAdapter]
    names: list[str]  # names of the base model
    dtype: Literal["auto", "bfloat16", "float32"]
    threads: int | None  # null for all cores
    max_streams: int  # maximum concurrent answers
    max_tokens: int  # maximum tokens of concurrent prompts and answers in memory
    most_answer: NotRequired[int | None]  # default maximum tokens of an answer; null: what fits
    context: int | None  # tokens of a prompt and its answer; null for the model's number of positions
    parent: int  # pid of the parent process, with which it ends
    labels: NotRequired[LabelSettings | None]


class BackendReady(TypedDict):
    """`ready.json` beside the spec, written once the backend accepts requests."""

    pid: int
    seconds: float  # loading time
    capabilities: Capabilities


RouteRole = Literal["live", "candidate", "shadow", "fallback"]


@dataclass(kw_only=True)
class BackendContent:
    """A backend. For engines other than `remote`, it is a process started by the gateway."""

    engine: Literal["worker", "llama.cpp", "remote"]
    model: str  # a folder, a model of the home folder, a hub id; for `remote`, the name in requests
    adapters: list[ServedAdapter]
    names: list[str]  # names of the base model
    dtype: Literal["auto", "bfloat16", "float32"]
    threads: int | None
    max_streams: int  # maximum concurrent requests; others wait
    max_tokens: int  # maximum tokens of concurrent prompts and answers in memory
    most_answer: int  # default maximum tokens of an answer
    context: int | None  # tokens; null for the model's own
    labels: LabelSettings | None
    url: str | None  # for `remote`: https://HOST/v1
    key_env: str | None  # for `remote`: environment variable with its key
    capabilities: Capabilities | None  # for `remote`: as specified by the user


@dataclass(kw_only=True)
class ServedBackend(BackendContent):
    """A backend with its id."""

    backend_id: str  # hash of its content, so that the same backend is started only once


@dataclass(kw_only=True)
class EndpointRoute:
    """Target of requests, and its share."""

    subject: str  # as specified: NAME@production, a run, a folder, an address
    version: str  # what the subject resolves to now: NAME@3, the run's name
    role: RouteRole
    share: float  # for a candidate, share of requests; for a shadow, share of requests copied; else 1
    backend_id: str
    asked_as: str  # model name in requests to the backend: its base model or an adapter


@dataclass(kw_only=True)
class ServedModel:
    """A model name that clients may use, and its routes."""

    name: str
    routes: list[EndpointRoute]


@dataclass(kw_only=True)
class EndpointLimits:
    """Limits of a request and of the queues."""

    body_bytes: int
    max_tokens: int  # maximum and default tokens of an answer
    seconds: float  # timeout of a whole answer
    queue: int  # maximum requests waiting for a backend; more are rejected with 429
    shadow_queue: int  # maximum copies waiting; more are dropped and counted
    drain_seconds: float  # time for answers in progress when the endpoint stops


@dataclass(kw_only=True)
class EndpointLog:
    """Settings of the request log."""

    sample: float  # share of requests whose texts are stored; every request has a log line
    redact: bool  # redact personal data and secrets in stored texts
    days: int  # retention of log files


@dataclass(kw_only=True)
class EndpointConfig:
    """`config.json`: the complete config of the gateway, which reloads it while running."""

    endpoint_id: str
    name: str
    asked_at: float  # Unix time of the last request to run; backends that failed to start are retried then
    home: str
    host: str
    port: int
    allow_host: list[str]
    networks: list[str] | None = None  # private networks that an admin allowed for addresses
    models: list[ServedModel]
    backends: list[ServedBackend]
    limits: EndpointLimits
    log: EndpointLog


class GatewayKey(TypedDict):
    """A key in `keys.json`, with only the SHA-256 of its secret."""

    key_id: str
    sha256: str
    person_id: str
    requests_per_minute: int | None
    tokens_per_day: int | None


class GatewayKeys(TypedDict):
    """`keys.json`: the keys that grant access."""

    keys: list[GatewayKey]


@dataclass(kw_only=True)
class EndpointKey:
    """A key as shown to people."""

    key_id: str
    endpoint_id: str
    person_id: str
    person_name: str
    name: str
    requests_per_minute: int | None
    tokens_per_day: int | None
    created_at: float  # Unix time, like all times here
    used_at: float | None
    revoked_at: float | None


@dataclass(kw_only=True)
class EndpointRow:
    """A row of the table `endpoint`."""

    endpoint_id: str
    name: str
    wanted: Literal["running", "stopped"]
    wanted_at: float  # Unix time of the last change of `wanted`
    settings: dict[str, object]  # store.serving.config.EndpointSettings
    created_by: str
    created_by_name: str
    created_at: float  # Unix time


@dataclass(kw_only=True)
class BackendState:
    """State of a backend as seen by the gateway."""

    backend_id: str
    engine: str
    model: str
    phase: Literal["starting", "ready", "failed", "stopped"]
    error: ErrorDocument | None  # why it did not start, or why it ended
    seconds: float | None  # startup time
    starts: int
    running: int  # requests being answered
    waiting: int  # requests waiting
    capabilities: Capabilities | None
    unreachable_since: float | None = None  # Unix time since which nothing listens at its address


@dataclass(kw_only=True)
class RouteState:
    """State of a route since the start of the gateway."""

    model: str
    version: str
    role: RouteRole
    share: float
    backend_id: str
    requests: int
    errors: int
    dropped: int  # for a shadow: copies dropped because the queue was full or the request isn't supported
    p95_seconds: float | None  # over the last hour
    n: int  # number of requests for the p95


@dataclass(kw_only=True)
class KeyUse:
    """Usage of a key today."""

    key_id: str
    day: str  # UTC
    tokens: int
    requests: int
    used_at: float  # Unix time


@dataclass(kw_only=True)
class LogPosition:
    """Position of the end of a log."""

    number: int  # number of the log file
    size: int  # size of that file, bytes


@dataclass(kw_only=True)
class LastHour:
    """Totals over all requests of the last hour."""

    requests: int
    errors: int  # requests with status 5xx
    refused: int  # requests with status 4xx
    p95_seconds: float | None
    n: int  # number of answers for the p95
    tokens: int


@dataclass(kw_only=True)
class EndpointState:
    """State of the gateway."""

    endpoint_id: str
    pid: int
    started_at: float
    at: float
    asked_at: float  # `asked_at` of the newest config that was applied or failed
    address: str  # http://HOST:PORT
    phase: Literal["starting", "ready", "failed", "draining"]
    error: ErrorDocument | None
    switching: str  # description of what a new config waits for; empty if none does
    backends: list[BackendState]
    routes: list[RouteState]
    keys: list[KeyUse]
    counted: LogPosition | None = None  # position up to which the log's requests are counted in `keys`
    hour: LastHour
    active: int  # requests in progress
    fallbacks: int  # answers given by the fallback
    lines: int  # lines written to the log
    lines_lost: int  # lines that could not be written, e.g. because the disk is full
    log_error: str  # reason for the last lost line


@dataclass(kw_only=True)
class EndpointStatus(EndpointRow):
    """Desired and actual state of an endpoint, as seen by the engine."""

    alive: bool  # whether its gateway process is running
    state: EndpointState | None  # null if no gateway has reported yet
    config: EndpointConfig | None  # config of its gateway
    problem: ErrorDocument | None  # why it isn't in the desired state
    keys: list[EndpointKey]


RequestKind = Literal["chat", "completion", "decision", "labels", "embedding"]


class RequestLine(TypedDict):
    """Line of `requests-NNNNNN.jsonl` in an endpoint's log folder, which is append-only.

    Texts are null if the request wasn't sampled or if texts aren't stored.
    """

    request_id: str  # the `id` of the answer, which feedback refers to
    endpoint_id: str
    at: float  # arrival, Unix time in s
    kind: RequestKind
    model: str  # model name in the request
    version: str  # NAME@3, or the name of the backend that answered
    role: Literal["live", "candidate", "shadow", "fallback"]
    person_id: str | None
    user: str | None  # hash of the request's `user`
    status: int  # HTTP status
    error: str | None  # error code
    prompt_tokens: int | None
    completion_tokens: int | None
    first_token_seconds: float | None  # null if the answer has no token
    seconds: float  # until the last byte
    finish_reason: str | None
    mean_logprob: float | None  # of the answer's tokens, nats, before sampling settings; null if unknown
    calls: NotRequired[int]  # function calls in the first choice
    # over all choices: malformed calls or calls with invalid arguments; null if not checked
    invalid_calls: NotRequired[int | None]
    label: str | None  # label given by a classifier or a decision model
    confidence: float | None  # confidence of the label
    abstained: bool
    input_characters: int
    output_characters: int | None
    # the request; null if not stored. Functions are as in rows: a first turn `tools`, calls as JSON
    messages: list[JsonObject] | None
    output: str | None  # calls as in rows
    redacted: int  # number of redactions
    group: str | None  # group for separate figures, given by the client
    dealt: str | None  # version whose share of callers includes this one, whichever answered
    dealt_to: str | None  # hash of the caller for that share: the request's `user`, else the key
    copy_of: str | None  # for a shadow, the copied request
    key_id: NotRequired[str | None]  # key whose quota it counts against; null for none
    tokens: NotRequired[int]  # tokens counted against the quota


class FeedbackLine(TypedDict):
    """Line of `feedback-NNNNNN.jsonl` beside the requests; fields that don't apply are null."""

    feedback_id: str
    request_id: str
    endpoint_id: str
    at: float
    person_id: str | None
    kind: Literal["thumb", "score", "correction", "label"]
    value: float | None  # thumb: 1 or 0; score: as given
    text: str | None  # the correction, or the correct label
    comment: str
