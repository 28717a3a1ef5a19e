"""Validation of a backend's spec (`store.serving.schemas`) when it is read."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from store.core.config import Config


class BackendAdapter(Config):
    """An adapter on the base model."""

    name: str = Field(min_length=1)
    folder: str = Field(min_length=1)


class BackendLabels(Config):
    """Settings for label probabilities."""

    temperature: float = Field(gt=0)
    threshold: float | None = Field(None, ge=0, le=1)


class BackendConfig(Config):
    """What a backend loads, and its concurrency limits."""

    engine: Literal["worker", "llama.cpp"]
    socket: str = Field(min_length=1)
    model: str = Field(min_length=1)
    home: str = Field(min_length=1)
    adapters: list[BackendAdapter] = Field(default_factory=list)
    names: list[str] = Field(default_factory=list)
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    threads: int | None = Field(None, ge=1)
    max_streams: int = Field(ge=1)
    max_tokens: int = Field(ge=1)
    most_answer: int | None = Field(None, ge=1)
    context: int | None = Field(None, ge=1)
    parent: int = Field(ge=1)
    labels: BackendLabels | None = None

    @model_validator(mode="after")
    def _each_name_once(self) -> Self:
        names = [*self.names, *(adapter.name for adapter in self.adapters)]
        if not names:
            raise ValueError("neither the base nor an adapter has a name to answer to")
        if len(set(names)) < len(names):
            raise ValueError("two models have the same name")
        return self
