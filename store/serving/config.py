"""Bodies of the commands for endpoints: models, routes, limits and keys."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from store.core.config import Config, Line, SubjectSource
from store.core.metric_options import check_endpoint_address
from store.core.model_fields import FieldDisplay

FIRST_PORT = 8600  # first port to try for endpoints without one
Name = Annotated[Line, Field(min_length=1, max_length=80, pattern=r"^[\w.@:/+ -]+$")]


RemoteKind = Literal["chat", "completion", "decision", "labels", "embedding"]
CHAT: tuple[RemoteKind, ...] = ("chat",)


class RemoteModel(Config):
    """A model at a remote address with an OpenAI-compatible API, and the request fields that its server
    supports.
    """

    model: str = Field(min_length=1, max_length=200, description="Model name on the server")
    key_env: str = Field("", pattern=r"^[A-Za-z_0-9]*$", description="Environment variable with the API key")
    kinds: list[RemoteKind] = Field(default_factory=lambda: [*CHAT])
    fields: list[str] = Field(
        default_factory=lambda: ["stream", "max_tokens", "temperature", "top_p", "stop", "seed"],
        description="Supported request fields; others are rejected",
    )
    context: int | None = Field(None, ge=1, description="Context length, tokens")


RouteRole = Literal["live", "candidate", "shadow", "fallback"]


class RouteChoice(Config):
    """A route to a subject, with its role and share. `subject`: NAME@3, NAME@production, a run, a model, a
    folder, a GGUF file, or an address such as https://HOST/v1.
    """

    subject: SubjectSource = Field(
        min_length=1,
        max_length=1000,
        description="NAME@3, NAME@production, a run, a model, a folder, or an address",
    )
    role: RouteRole = Field("live", description="Its role")
    share: float = Field(1.0, gt=0, le=1, description="Share of requests for a candidate or a shadow")
    remote: RemoteModel | None = Field(None, description="Model behind an address")

    @property
    def is_address(self) -> bool:
        return urlsplit(self.subject).scheme in ("http", "https")

    @field_validator("subject")
    @classmethod
    def _safe(cls, value: str) -> str:
        return check_endpoint_address(value) if urlsplit(value).scheme in ("http", "https") else value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.is_address != (self.remote is not None):
            raise ValueError(
                "`remote` describes the model behind an address; only an address has it, and needs it"
            )
        if self.role in ("live", "fallback") and self.share != 1:
            raise ValueError(f"a share is for a candidate or a shadow, not for {self.role}")
        return self


class ModelChoice(Config):
    """A model name for clients, and the routes of its requests."""

    name: Name = Field(description="Name that clients request")
    routes: list[RouteChoice] = Field(min_length=1, max_length=8, description="Versions; exactly one is live")

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if sum(route.role == "live" for route in self.routes) != 1:
            raise ValueError(f"{self.name} needs one live route")
        if sum(route.share for route in self.routes if route.role == "candidate") > 1:
            raise ValueError(f"the candidates of {self.name} have shares of more than 1 together")
        return self


class ServingLimits(Config):
    """Limits of one request."""

    body_bytes: int = Field(2**20, ge=1024, le=2**26, description="Maximum prompt tokens")
    max_tokens: int = Field(2048, ge=1, le=2**20, description="Maximum tokens per response, also the default")
    seconds: float = Field(120.0, gt=0, le=3600, description="Timeout per response, s")
    queue: int = Field(
        64, ge=0, le=10_000, description="Maximum waiting requests; more are rejected with 429"
    )
    shadow_queue: int = Field(
        64, ge=1, le=10_000, description="Maximum waiting shadow requests; more are dropped"
    )
    drain_seconds: float = Field(
        30.0, ge=0, le=600, description="Time for responses in progress on shutdown, s"
    )


class ServingLog(Config):
    """Settings of the request log."""

    sample: float = Field(1.0, ge=0, le=1, description="Share of requests whose texts are stored")
    redact: bool = Field(False, description="Redact personal data and secrets in stored texts")
    days: int = Field(90, ge=1, le=3650, description="Retention of the log")


class EndpointSettings(Config):
    """Settings of an endpoint."""

    models: list[ModelChoice] = Field(min_length=1, max_length=32, description="Served model")
    host: str = Field("127.0.0.1", max_length=200, description="Listen address")
    port: int | None = Field(None, ge=1, le=65535, description="The first free port if null")
    allow_host: list[str] = Field(default_factory=list, description="Additional allowed host names")
    limits: ServingLimits = Field(default_factory=ServingLimits, description="Request limits")
    log: ServingLog = Field(default_factory=ServingLog, description="Request logging")
    dtype: Literal["auto", "bfloat16", "float32"] = Field("auto", description="Data type of the weights")
    threads: int | None = Field(None, ge=1, le=1024, description="Threads per backend; null: all cores")
    max_streams: int = Field(8, ge=1, le=1024, description="Concurrent responses per backend")
    tokens_in_memory: int = Field(
        16_384, ge=256, le=2**24, description="Tokens of concurrent responses per backend"
    )
    context: int | None = Field(None, ge=16, description="Context length, tokens; null: the model's own")
    temperature: float = Field(1.0, gt=0, le=100, description="Temperature of a classifier's scores")
    threshold: float | None = Field(None, ge=0, le=1, description="No label below this confidence")

    @property
    def keys_sent(self) -> frozenset[tuple[str, str]]:
        """Addresses, each with the environment variable whose value is sent as its key."""
        routes = [route for model in self.models for route in model.routes]
        return frozenset(
            (route.subject, route.remote.key_env) for route in routes if route.remote and route.remote.key_env
        )

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        names = [model.name for model in self.models]
        if len({*names}) < len(names):
            raise ValueError("two models have the same name")
        return self


class MakeEndpoint(EndpointSettings):
    """Create an endpoint. `with_key`: name of a key to create with it, empty for none."""

    name: Line = Field(min_length=1, max_length=80, description="Name of the endpoint")
    start: bool = Field(True, description="Start immediately")
    with_key: Line = Field("", max_length=80, description="Purpose of keys created with it")


class ChangeEndpoint(Config):
    """Replace the settings of an endpoint."""

    endpoint: str
    settings: EndpointSettings


class EndpointReference(Config):
    """Reference to an endpoint by id or name."""

    endpoint: str


class NewKey(EndpointReference):
    name: Annotated[Line, FieldDisplay(example="web shop")] = Field(
        min_length=1, max_length=80, title="Key name", description="Purpose"
    )
    requests_per_minute: Annotated[int | None, FieldDisplay(empty="no limit")] = Field(
        None, ge=1, le=1_000_000, title="Requests per minute"
    )
    tokens_per_day: Annotated[int | None, FieldDisplay(empty="no limit")] = Field(
        None, ge=1, le=10**12, title="Tokens per day"
    )


class KeyReference(Config):
    key: str
