"""An endpoint: what its folder says to its gateway, what a backend can do and is told, how the gateway
stands, and the lines of its log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict

from store.core.schemas import ErrorDocument, JsonObject


@dataclass(kw_only=True)
class Capabilities:
    """Of one backend. A backend is asked by OpenAI's protocol, over a Unix socket of its own or a URL."""

    engine: str  # worker, llama.cpp, remote
    version: str
    kinds: list[Literal["chat", "completion", "decision", "labels", "embedding"]]
    fields: list[str]  # of a request's body that it obeys, beside model, messages, prompt and input
    context: int | None  # tokens
    template: bool  # it has a chat template
    models: list[str]  # names that it answers to


@dataclass(kw_only=True)
class ServedAdapter:
    """One adapter over the base."""

    name: str  # by which requests ask for it
    folder: str


@dataclass(kw_only=True)
class LabelSettings:
    """How the probabilities of a classifier, or of a decision, are given."""

    temperature: float  # by which scores are divided: 1 leaves them as they are
    threshold: float | None  # of confidence, below which no label is given


class BackendSpec(TypedDict):
    """`SPEC.json`, for `python -m engine.serving.backend`."""

    engine: Literal["worker", "llama.cpp"]
    socket: str  # path of the Unix socket that it listens at
    model: str  # a folder, a name in the home folder or a hub id; for llama.cpp a GGUF file
    home: str
    adapters: list[ServedAdapter]
    names: list[str]  # that answer for the base
    dtype: Literal["auto", "bfloat16", "float32"]
    threads: int | None  # null: of all cores
    max_streams: int  # answers that are made at once
    max_tokens: int  # of prompts and answers that are in memory at once
    most_answer: NotRequired[
        int | None
    ]  # tokens of an answer that names no number; null: what there is room for
    context: int | None  # tokens of a prompt and its answer; null: as many as the model has positions
    parent: int  # the process for which it works, and with which it ends
    labels: NotRequired[LabelSettings | None]


class BackendReady(TypedDict):
    """`ready.json` beside the spec, written once it can be asked."""

    pid: int
    seconds: float  # that loading took
    capabilities: Capabilities


RouteRole = Literal["live", "candidate", "shadow", "fallback"]


@dataclass(kw_only=True)
class BackendContent:
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


@dataclass(kw_only=True)
class ServedBackend(BackendContent):
    """The same with its id."""

    backend_id: str  # by its content: the same backend is started once


@dataclass(kw_only=True)
class EndpointRoute:
    """Where requests go, and how many of them."""

    subject: str  # as a person wrote it: NAME@production, a run, a folder, an address
    version: str  # what that is now: NAME@3, the run's name
    role: RouteRole
    share: float  # of a candidate: of the requests; of a shadow: of them that are copied; else 1
    backend_id: str
    asked_as: str  # the name by which the backend is asked: of its base or of an adapter


@dataclass(kw_only=True)
class ServedModel:
    """A name that callers may ask for, and where they get to."""

    name: str
    routes: list[EndpointRoute]


@dataclass(kw_only=True)
class EndpointLimits:
    """What one request may cost, and how many wait."""

    body_bytes: int
    max_tokens: int  # of an answer: that a request may ask for, and of one that names none
    seconds: float  # for a whole answer
    queue: int  # requests that wait for a backend; more are refused with 429
    shadow_queue: int  # copies that wait; more are dropped, and counted
    drain_seconds: float  # for answers under way when the endpoint stops


@dataclass(kw_only=True)
class EndpointLog:
    """What is kept of requests."""

    sample: float  # share of the requests whose texts are kept; a line is kept of every one
    redact: bool  # personal data and secrets are taken out of kept texts
    days: int  # that files are kept


@dataclass(kw_only=True)
class EndpointConfig:
    """`config.json`: all that the gateway is told. It takes a new one while it runs."""

    endpoint_id: str
    name: str
    asked_at: float  # s since 1970: when it was last asked to run; what did not start is tried again then
    home: str
    host: str
    port: int
    allow_host: list[str]
    networks: list[str] | None = None  # private ones that an admin allowed, in which an address may be
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


@dataclass(kw_only=True)
class EndpointKey:
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


@dataclass(kw_only=True)
class EndpointRow:
    """A row of the table `endpoint`."""

    endpoint_id: str
    name: str
    wanted: Literal["running", "stopped"]
    wanted_at: float  # s since 1970: when somebody last said so
    settings: dict[str, object]  # store.serving.config.EndpointSettings
    created_by: str
    created_by_name: str
    created_at: float  # s since 1970


@dataclass(kw_only=True)
class BackendState:
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
    unreachable_since: float | None = None  # s since 1970: nothing listens at its address


@dataclass(kw_only=True)
class RouteState:
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


@dataclass(kw_only=True)
class KeyUse:
    """What a key has used today."""

    key_id: str
    day: str  # in UTC
    tokens: int
    requests: int
    used_at: float  # s since 1970


@dataclass(kw_only=True)
class LogPosition:
    """Where a log ended."""

    number: int  # of its file
    size: int  # of that, bytes


@dataclass(kw_only=True)
class LastHour:
    """All requests of the last hour."""

    requests: int
    errors: int  # that failed: status 5xx
    refused: int  # status 4xx, of them
    p95_seconds: float | None
    n: int  # answers that the p95 rests on
    tokens: int


@dataclass(kw_only=True)
class EndpointState:
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
    counted: LogPosition | None = None  # up to where the log's requests are in `keys`
    hour: LastHour
    active: int  # requests under way
    fallbacks: int  # answers that the fallback gave
    lines: int  # that were written to the log
    lines_lost: int  # that could not be written: a full disk
    log_error: str  # why, of the last one


@dataclass(kw_only=True)
class EndpointStatus(EndpointRow):
    """An endpoint as the engine sees it: what is wanted, and what there is."""

    alive: bool  # its gateway's process is there
    state: EndpointState | None  # null: no gateway has told yet
    config: EndpointConfig | None  # that its gateway is told
    problem: ErrorDocument | None  # why it is not as wanted
    keys: list[EndpointKey]


RequestKind = Literal["chat", "completion", "decision", "labels", "embedding"]


class RequestLine(TypedDict):
    """`requests-NNNNNN.jsonl` in the log of an endpoint's folder, appended to alone.

    Texts are null where the request was not drawn into the sample, or texts are not to be kept.
    """

    request_id: str  # as the answer's `id`; feedback names it
    endpoint_id: str
    at: float  # Unix time at which it came, s
    kind: RequestKind
    model: str  # as it was asked for
    version: str  # NAME@3, or the backend's name of what answered
    role: Literal["live", "candidate", "shadow", "fallback"]
    person_id: str | None
    user: str | None  # whom the caller names, by a hash
    status: int  # of HTTP
    error: str | None  # its code
    prompt_tokens: int | None
    completion_tokens: int | None
    first_token_seconds: float | None  # null: the answer has none
    seconds: float  # until the last byte
    finish_reason: str | None
    mean_logprob: (
        float | None
    )  # of the answer's tokens, nats, of the model's own distribution; null: not told
    calls: NotRequired[int]  # of functions, in the first choice
    # of all choices: meant for a call and none, or with arguments that don't fit; null: not checked
    invalid_calls: NotRequired[int | None]
    label: str | None  # of a classifier or a decision model
    confidence: float | None  # of that label
    abstained: bool
    input_characters: int
    output_characters: int | None
    # what was asked; null: not kept. With functions as rows have it: first a turn `tools`, calls as JSON
    messages: list[JsonObject] | None
    output: str | None  # calls as rows have them
    redacted: int  # places where personal data was taken out
    group: str | None  # by which the caller wants figures apart
    dealt: str | None  # the version in whose share of callers it is, whichever answered
    dealt_to: str | None  # to whom that was dealt, by a hash: whom the caller names, else the key
    copy_of: str | None  # of a shadow: the request that it copies
    key_id: NotRequired[str | None]  # whose quota it counts in; null: nobody's
    tokens: NotRequired[int]  # that it counts there


class FeedbackLine(TypedDict):
    """`feedback-NNNNNN.jsonl` beside the requests, a line each; what does not apply is null."""

    feedback_id: str
    request_id: str
    endpoint_id: str
    at: float
    person_id: str | None
    kind: Literal["thumb", "score", "correction", "label"]
    value: float | None  # thumb: 1 or 0; score: as it was given
    text: str | None  # the correction, or the label that is right
    comment: str
