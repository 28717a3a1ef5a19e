"""What a backend of an endpoint can do: what is not here is refused by the gateway, and never dropped."""

from __future__ import annotations

from typing import Literal, TypedDict


class Capabilities(TypedDict):
    """Of one backend. A backend is asked by OpenAI's protocol, over a Unix socket of its own or a URL."""

    engine: str  # worker, llama.cpp, remote
    version: str
    kinds: list[Literal["chat", "completion", "decision", "labels", "embedding"]]
    fields: list[str]  # of a request's body that it obeys, beside model, messages, prompt and input
    context: int | None  # tokens
    template: bool  # it has a chat template
    models: list[str]  # names that it answers to
