"""The log of an endpoint, as a gateway writes it: requests with the texts of a file, and feedback on them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from store.serving.schemas import FeedbackLine, RequestLine


@dataclass(frozen=True)
class Traffic:
    """Parameters of requests. every: seconds between two; callers: number of callers, chosen at random."""

    endpoint_id: str = "endpoint-1"
    version: str = "intents@3"
    name: str = "intents"  # model name that callers request
    start: float = 1_800_000_000.0  # Unix time
    every: float = 20.0
    callers: int = 40
    seconds: float = 0.4  # median of a response
    failing: float = 0.005
    candidate: float = 0.0  # share of requests to a candidate
    groups: tuple[str, ...] = ("web", "app")


def request_lines(
    inputs: Sequence[str],
    outputs: Sequence[str],
    traffic: Traffic,
    rng: np.random.Generator,
    *,
    first: int = 0,
) -> Iterator[RequestLine]:
    """Yield a log line for each input and the output at the same index; `first`: number of the first
    request.
    """
    for place, (asked, answer) in enumerate(zip(inputs, outputs, strict=True), start=first):
        failed = bool(rng.random() < traffic.failing)
        candidate = bool(rng.random() < traffic.candidate)
        seconds = float(traffic.seconds * rng.lognormal(0, 0.4))
        caller = int(rng.integers(traffic.callers))
        yield {
            "request_id": f"chatcmpl-{traffic.endpoint_id}-{place:08d}",
            "endpoint_id": traffic.endpoint_id,
            "at": traffic.start + place * traffic.every,
            "kind": "chat",
            "model": traffic.name,
            "version": "intents@4" if candidate else traffic.version,
            "role": "candidate" if candidate else "live",
            "person_id": None,
            "user": hashlib.sha256(f"caller {caller}".encode()).hexdigest()[:16],
            "status": 502 if failed else 200,
            "error": "backend_unavailable" if failed else None,
            "prompt_tokens": 8 + len(asked) // 4,
            "completion_tokens": None if failed else 1 + len(answer) // 4,
            "first_token_seconds": None if failed else seconds / 3,
            "seconds": seconds,
            "finish_reason": None if failed else "stop",
            "mean_logprob": None if failed else -float(rng.gamma(2, 0.15)),
            "label": None,
            "confidence": None,
            "abstained": False,
            "input_characters": len(asked),
            "output_characters": None if failed else len(answer),
            "messages": [{"role": "user", "content": asked}],
            "output": None if failed else answer,
            "redacted": 0,
            "group": traffic.groups[caller % len(traffic.groups)],
            "dealt": "intents@4" if candidate else traffic.version,
            "dealt_to": hashlib.sha256(f"caller {caller}".encode()).hexdigest()[:16],
            "copy_of": None,
        }


def thumbs(
    requests: Iterable[RequestLine], share: float, up: float, rng: np.random.Generator
) -> Iterator[FeedbackLine]:
    """Yield thumbs on a share of the responses; a share `up` of them is up."""
    for line in requests:
        if line["status"] < 400 and rng.random() < share:
            yield {
                "feedback_id": f"feedback-{line['request_id']}",
                "request_id": line["request_id"],
                "endpoint_id": line["endpoint_id"],
                "at": line["at"] + 30,
                "person_id": None,
                "kind": "thumb",
                "value": float(rng.random() < up),
                "text": None,
                "comment": "",
            }


def append(path: Path, lines: Iterable[RequestLine | FeedbackLine | dict[str, Any]]) -> None:
    """Append lines to a log file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
