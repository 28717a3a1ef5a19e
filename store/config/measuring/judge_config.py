"""How a language model is asked to judge answers, through any endpoint that speaks the OpenAI protocol.

The key is never part of a config: `key_env` names an environment variable of the worker, or `key_file` a file
that only its owner can read. Plain http is for this machine alone, as it would show the key to the network.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator

from store.config.measuring.metric_choice import MetricChoice
from store.contract.addresses import host_and_port, never_reached
from store.contract.document import Config

CRITERIA = "The answer is correct, complete, and does what was asked."


def safe_address(value: str) -> str:
    """The address of a server that may be sent a key. Raises ValueError for any other."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("use an address such as https://HOST/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("leave user, password and query out; the key goes by key_env or key_file")
    if refused := never_reached(host_and_port(value)[0]):
        raise ValueError(f"it is {refused}; give another address")
    if parts.scheme == "http" and not _loopback(parts.hostname):
        raise ValueError("http shows the key to the network; use https, or a server on this machine")
    return value.rstrip("/")


class Endpoint(Config):
    """Where the judge is, and how patiently it is asked."""

    base_url: str = Field(max_length=500, description="Such as https://HOST/v1; /chat/completions is added")
    model: str = Field(min_length=1, max_length=200)
    key_env: str = Field("", pattern=r"^[A-Za-z_0-9]*$", description="Environment variable with the key")
    key_file: str = Field("", description="A file with the key, mode 0600")
    timeout: float = Field(60.0, gt=0, le=600, description="Seconds for one answer")
    retries: int = Field(3, ge=0, le=10, description="After an answer that may be different next time")
    concurrency: int = Field(4, ge=1, le=64, description="Questions at a time")
    max_calls: int = Field(1_000, ge=1, le=1_000_000, description="Requests of one evaluation at most")
    max_tokens: int = Field(512, ge=16, le=16_384, description="Of a judgement")
    json_mode: bool = Field(False, description="Ask for JSON by response_format; some servers refuse it")

    extra: dict[str, Any] = Field(
        default_factory=dict, description="Fields of each request; null leaves one of ours out"
    )

    @field_validator("extra")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := {"messages", "model", "stream", "n"} & set(value):
            raise ValueError(f"{', '.join(sorted(taken))} can't be changed here")
        return value

    @field_validator("base_url")
    @classmethod
    def _safe(cls, value: str) -> str:
        return safe_address(value)

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.key_env and self.key_file:
            raise ValueError("give key_env or key_file, not both")
        return self


class JudgeChoice(MetricChoice, Endpoint):
    """Grades from `lowest` to `highest`, by `criteria`; pairs have a winner instead."""

    metric: Literal["judge"]
    criteria: str = Field(CRITERIA, min_length=1, max_length=10_000)
    lowest: int = Field(1, ge=0, le=100)
    highest: int = Field(5, ge=1, le=100)
    with_reference: bool = Field(True, description="Show the judge the row's own answer")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest {self.lowest} is not below highest {self.highest}")
        return self


class JudgePairs(Config):
    """Which of two evaluations' answers to the same rows is better."""

    first: str = Field(min_length=1, max_length=120, description="An evaluation, by id or name")
    second: str = Field(min_length=1, max_length=120, description="Another one, of the same rows")
    judge: JudgeChoice
    max_rows: int | None = Field(200, ge=1, description="A random sample of so many pairs; all where null")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Of the sample")

    @field_validator("judge", mode="before")
    @classmethod
    def _is_judge(cls, value: Any) -> Any:
        return {"metric": "judge"} | value if isinstance(value, dict) else value

    @field_validator("second")
    @classmethod
    def _another(cls, value: str, validation: ValidationInfo) -> str:
        if value == validation.data.get("first"):
            raise ValueError("it is the first one; name another evaluation")
        return value


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
