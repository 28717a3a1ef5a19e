"""Texts about endpoints for screens and the command line: state, example requests, and default names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from store.serving.schemas import EndpointStatus

STATES = {
    "ready": "ready",
    "starting": "starting",
    "failed": "can't answer",
    "draining": "stopping",
}


def describe_state(status: EndpointStatus) -> str:
    """Describe the state of an endpoint in one or two words."""
    if not status.alive:
        if status.wanted == "stopped":
            return "stopped"
        return "does not start" if status.problem else "starting"
    if status.wanted == "stopped":
        return "stopping"
    state = status.state
    if state is None:
        return "starting"
    unreached = any(backend.unreachable_since for backend in state.backends)
    return "unreachable" if state.phase == "failed" and unreached else STATES[state.phase]


class _Example(NamedTuple):
    """Example of one kind of request: path, body besides the model, client call, its arguments, and the
    result.
    """

    path: str
    body: str
    call: str
    arguments: str
    result: str


_CHAT = _Example(
    "chat/completions", '"messages": [{"role": "user", "content": "Hello"}]', "chat.completions.create",
    'messages=[{"role": "user", "content": "Hello"}]', "choices[0].message.content",
)  # fmt: skip
_EXAMPLES = {
    "embedding": _Example(
        "embeddings", '"input": "Hello"', "embeddings.create", 'input="Hello"', "data[0].embedding"
    ),
    "completion": _Example(
        "completions", '"prompt": "Hello"', "completions.create", 'prompt="Hello"', "choices[0].text"
    ),
}


def build_examples(address: str, model: str, kinds: Sequence[str] = ()) -> tuple[str, str]:
    """Return example requests with curl and with OpenAI's Python client.

    kinds: kinds of requests that the model supports.
    """
    is_chat = not kinds or "chat" in kinds or "labels" in kinds
    example = _CHAT if is_chat else _EXAMPLES.get(kinds[0], _CHAT)
    curl = (
        f"curl {address}/v1/{example.path} \\\n"
        '  -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\\n'
        f'  -d \'{{"model": "{model}", {example.body}}}\''
    )
    python = (
        "from openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{address}/v1", api_key=KEY)\n'
        f"answer = client.{example.call}(\n"
        f'    model="{model}", {example.arguments}\n'
        ")\n"
        f"print(answer.{example.result})"
    )
    return curl, python


def list_first_kinds(status: EndpointStatus) -> list[str]:
    """Return the kinds of requests that the first model supports; empty if not known yet."""
    models = status.config.models if status.config else []
    backend_id = next((route.backend_id for model in models[:1] for route in model.routes
                 if route.role == "live"), None)  # fmt: skip
    backends = status.state.backends if status.state else []
    capabilities = next(
        (backend.capabilities for backend in backends if backend.backend_id == backend_id), None
    )
    return [*capabilities.kinds] if capabilities else []


def build_feedback_example(address: str) -> str:
    """Return an example of sending feedback with the correct label."""
    return (
        f"curl {address}/v1/feedback \\\n"
        '  -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\\n'
        '  -d \'{"request_id": "THE ID OF THE ANSWER", "label": "what would have been right"}\''
    )


def suggest_name(settings: Mapping[str, Any]) -> str:
    """Suggest a name for an endpoint: that of the first model that it serves."""
    models = settings.get("models")
    first = models[0] if isinstance(models, list) and models else {}
    name = first.get("name") if isinstance(first, dict) else None
    return Path(str(name)).name if name else "endpoint"
