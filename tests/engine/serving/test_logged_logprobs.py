"""The gateway over our worker: each request's line says how likely its answer's tokens were, whether or not
that was asked for, and no caller sees more than OpenAI's protocol has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.engine.serving.served import LIVELY, chat_tokens
from tests.tiny import make_tokenizer, write_model
from tests.unit.serving.served_endpoint import KEY, ServedEndpoint, backend, route

SCHEMA = {"type": "object", "properties": {"a": {"enum": ["red", "blue"]}}, "required": ["a"]}
HELD = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}
ASKED: dict[str, dict[str, Any]] = {
    "the likeliest tokens": {"temperature": 0},
    "drawn": {"temperature": 1.5, "top_p": 0.9},
    "drawn otherwise than the model would": {"logit_bias": {"70": 4}, "presence_penalty": 1.5},
    "held to a schema": {"response_format": HELD, "max_tokens": 40},
    "several": {"n": 3},
}


class WorkerEndpoint(ServedEndpoint):
    """With a backend of our own."""

    gateway = "engine.serving.gateway"
    patience = 120.0  # torch and transformers are imported


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logged")
    write_model(folder / "base", **LIVELY)
    return folder


@pytest.fixture(scope="module")
def endpoint(folder: Path) -> Iterator[ServedEndpoint]:
    own = replace(backend("b"), model=str(folder / "base"), dtype="float32", threads=1, max_tokens=4096)
    endpoint = WorkerEndpoint(folder / "e", [own], [route("live", "b")])
    try:
        endpoint.start()
        yield endpoint
    finally:
        endpoint.stop()


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder / "base")


def tokens_of(content: list[Any]) -> list[int]:
    """Of a byte-level vocabulary, whose byte 255 llguidance takes for a special token without a name."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    tokenizer, names = make_tokenizer(), bytes_to_unicode()
    tokens = []
    for each in content:
        name = names[each["bytes"][0]] if len(each["bytes"]) == 1 else each["token"]
        tokens.append(tokenizer.convert_tokens_to_ids(names[255] if name == "\ufffd" else name))
    return tokens


def mean_by_transformers(model: Any, prompt: list[int], tokens: list[int]) -> float:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
    return float(logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None]).mean())


def logged(endpoint: ServedEndpoint, request_id: str) -> Any:
    return next(line["mean_logprob"] for line in endpoint.lines() if line["request_id"] == request_id)


def streamed(endpoint: ServedEndpoint, **fields: Any) -> list[Any]:
    """The documents of a stream; its bytes are checked to be nothing else."""
    answer = endpoint.post(stream=True, **fields)
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: ") and "\n" not in event for event in events[:-1])
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


@pytest.mark.parametrize("what", ASKED)
def test_a_line_has_what_transformers_reckons(endpoint: ServedEndpoint, model: Any, what: str) -> None:
    asked: dict[str, Any] = {"max_tokens": 24, "seed": 5} | ASKED[what]
    plain = endpoint.post(**asked)
    listed = endpoint.post(**asked, logprobs=True, top_logprobs=2)
    choice, listed_choice = plain.json()["choices"][0], listed.json()["choices"][0]
    assert choice["message"] == listed_choice["message"]
    tokens = tokens_of(listed_choice["logprobs"]["content"])
    expected = mean_by_transformers(model, chat_tokens("Hello"), tokens)
    assert logged(endpoint, plain.json()["id"]) == pytest.approx(expected, abs=1e-4)
    assert logged(endpoint, listed.json()["id"]) == logged(endpoint, plain.json()["id"])
    chunks = streamed(endpoint, **asked)
    assert logged(endpoint, chunks[0]["id"]) == pytest.approx(expected, abs=1e-4)
    assert {*plain.json()} == {"id", "object", "created", "model", "choices", "usage"}
    assert {*choice} == {"index", "message", "logprobs", "finish_reason"}
    assert choice["logprobs"] is None
    assert not any("logprob" in name for name in plain.headers)
    for chunk in chunks:
        assert {*chunk} == {"id", "object", "created", "model", "choices"}
        assert [{*piece} for piece in chunk["choices"]] == [{"index", "delta", "logprobs", "finish_reason"}]
        piece = chunk["choices"][0]
        assert piece["logprobs"] is None
        assert piece["finish_reason"] or piece["delta"].get("content") or piece["delta"].get("role")


def test_up_to_a_stop_string_and_of_a_completion(endpoint: ServedEndpoint) -> None:
    listed = endpoint.post(max_tokens=40, temperature=0, logprobs=True).json()["choices"][0]
    stop = listed["message"]["content"][6:9]
    whole = endpoint.post(max_tokens=40, temperature=0, stop=[stop], logprobs=True).json()
    plain = endpoint.post(max_tokens=40, temperature=0, stop=[stop]).json()
    content = whole["choices"][0]["logprobs"]["content"]
    assert 0 < len(content) < len(listed["logprobs"]["content"])
    mean = sum(token["logprob"] for token in content) / len(content)
    assert logged(endpoint, plain["id"]) == pytest.approx(mean, abs=1e-6)
    asked: dict[str, Any] = {"model": "m", "prompt": ["One", "Two"], "max_tokens": 8, "temperature": 0}
    answer = endpoint.post("completions", **asked, logprobs=0).json()
    tokens = answer["choices"][0]["logprobs"]["token_logprobs"]
    plain = endpoint.post("completions", **asked).json()
    assert plain["choices"][0]["logprobs"] is None
    assert logged(endpoint, plain["id"]) == pytest.approx(sum(tokens) / len(tokens), abs=1e-6)


def test_what_is_refused_has_none(endpoint: ServedEndpoint) -> None:
    assert endpoint.post(tools=[{"type": "function"}]).json()["error"]["param"] == "tools"
    refused = httpx.post(
        f"{endpoint.address}/v1/chat/completions", json={}, headers={"Authorization": f"Bearer {KEY}"}
    )
    assert refused.status_code == 400
    assert [line["mean_logprob"] for line in endpoint.lines()[-2:]] == [None, None]
