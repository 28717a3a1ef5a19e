"""What screens and command line say of endpoints: how one stands, how it is called, how it is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from store.documents.tables.endpoint_state import EndpointSeen

STATES = {
    "ready": "ready",
    "starting": "starting",
    "failed": "can't answer",
    "draining": "stopping",
}


def stands(seen: EndpointSeen) -> str:
    """How an endpoint stands, in a word or two."""
    if not seen["alive"]:
        if seen["wanted"] == "stopped":
            return "stopped"
        return "does not start" if seen["problem"] else "starting"
    if seen["wanted"] == "stopped":
        return "stopping"
    state = seen["state"]
    if state is None:
        return "starting"
    unreached = any(backend.get("unreachable_since") for backend in state["backends"])
    return "unreachable" if state["phase"] == "failed" and unreached else STATES[state["phase"]]


def examples(address: str, model: str) -> tuple[str, str]:
    """How to ask it: by curl, and by OpenAI's Python client."""
    curl = (
        f"curl {address}/v1/chat/completions \\\n"
        '  -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\\n'
        f'  -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}\''
    )
    python = (
        "from openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{address}/v1", api_key=KEY)\n'
        "answer = client.chat.completions.create(\n"
        f'    model="{model}", messages=[{{"role": "user", "content": "Hello"}}]\n'
        ")\n"
        "print(answer.choices[0].message.content)"
    )
    return curl, python


def feedback_example(address: str) -> str:
    """How a caller says what would have been right."""
    return (
        f"curl {address}/v1/feedback \\\n"
        '  -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\\n'
        '  -d \'{"request_id": "THE ID OF THE ANSWER", "label": "what would have been right"}\''
    )


def usual_name(settings: Mapping[str, Any]) -> str:
    """Of an endpoint that was given none: the first thing that it serves."""
    models = settings.get("models")
    first = models[0] if isinstance(models, list) and models else {}
    name = first.get("name") if isinstance(first, dict) else None
    return Path(str(name)).name if name else "endpoint"
