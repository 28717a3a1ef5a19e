"""Our worker: what is made together is what would be made alone, and every field that it takes is obeyed."""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.models.tokenization import template_limits
from engine.serving.torch_backend.answering import load_answerer
from engine.serving.torch_backend.batched_forward import PromptChunk
from tests.engine.serving import served
from tests.engine.serving.served import by_transformers, chat_tokens, client, events, spec_of
from tests.tiny import make_tokenizer, write_model

TEXTS = ["What is 3 + 4?", "Hello", "Name a colour, any colour that you like.", "z"]
SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "blue"]},
        "sure": {"type": "boolean"},
        "n": {"type": "integer", "maximum": 99},
    },
    "required": ["colour", "sure", "n"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served.write_models(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def worker(folder: Path) -> Any:
    return load_answerer(spec_of(folder))


@pytest.fixture(scope="module")
def http(folder: Path, worker: Any) -> Iterator[httpx.Client]:
    socket = spec_of(folder)["socket"]
    with served.server(worker, socket), client(socket) as http:
        yield http


def body(text: str = "Hello", model: str = "base", **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": model, "messages": messages, "max_tokens": 24, "temperature": 0} | fields


def chat(http: httpx.Client, text: str = "Hello", model: str = "base", **fields: Any) -> Any:
    response = http.post("/v1/chat/completions", json=body(text, model, **fields))
    assert response.status_code == 200, response.text
    return response.json()


def content_of(document: Any) -> str:
    return str(document["choices"][0]["message"]["content"])


def refusal(http: httpx.Client, **fields: Any) -> tuple[int, Any]:
    response = http.post("/v1/chat/completions", json=body() | fields)
    return response.status_code, response.json()["error"]


def together(http: httpx.Client, bodies: list[dict[str, Any]]) -> list[Any]:
    with ThreadPoolExecutor(len(bodies)) as threads:
        answers = list(threads.map(lambda each: http.post("/v1/chat/completions", json=each), bodies))
    return [answer.json() for answer in answers]


def test_several_adapters_in_one_batch_answer_as_each_alone_does(folder: Path, http: httpx.Client) -> None:
    asked = [(name, text) for text in TEXTS for name in ("base", "first", "second")]
    answers = together(http, [body(text, name) for name, text in asked])
    tokenizer = make_tokenizer()
    for (name, text), answer in zip(asked, answers, strict=True):
        expected = by_transformers(folder, name, chat_tokens(text), 24)
        assert content_of(answer) == tokenizer.decode(expected, skip_special_tokens=True), (name, text)
    assert len({content_of(answer) for answer in answers}) > len(TEXTS), "adapters change answers"


def test_who_joins_midway_changes_nothing_and_the_seed_decides(http: httpx.Client) -> None:
    drawn = {"temperature": 1.3, "top_p": 0.9, "seed": 7, "max_tokens": 60, "logprobs": True}
    alone = chat(http, "Hello", "second", **drawn)["choices"][0]
    bodies = [body("Hello", "second", **drawn), body("Hello", "second", **drawn, n=2)]
    bodies += [body(text, name, temperature=1, max_tokens=9) for text in TEXTS for name in ("first", "base")]
    answers = together(http, bodies)
    for answer in answers[:2]:
        assert answer["choices"][0]["message"] == alone["message"]
        assert answer["choices"][0]["logprobs"] == alone["logprobs"], "bit for bit"
    assert answers[1]["choices"][1]["message"] != alone["message"], "each choice is a draw of its own"
    assert content_of(chat(http, "Hello", "second", **drawn | {"seed": 8})) != alone["message"]["content"]


def test_log_probabilities_are_the_models_own(folder: Path, http: httpx.Client) -> None:
    answer = chat(http, "z", logprobs=True, top_logprobs=3, temperature=0.7, seed=1, logit_bias={"60": 5})
    tokens = answer["choices"][0]["logprobs"]["content"]
    ids = [make_tokenizer().convert_tokens_to_ids(byte) for byte in alphabet(tokens)]
    prompt = chat_tokens("z")
    model: Any = AutoModelForCausalLM.from_pretrained(folder / "base")
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
    expected = logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).sum()
    assert sum(token["logprob"] for token in tokens) == pytest.approx(float(expected), abs=1e-3)
    for token in tokens:
        best = [other["logprob"] for other in token["top_logprobs"]]
        assert len(best) == 3
        assert best == sorted(best, reverse=True)
        assert best[0] >= token["logprob"]


def alphabet(tokens: list[Any]) -> list[str]:
    """The names of single bytes in a byte-level vocabulary."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return [bytes_to_unicode()[token["bytes"][0]] for token in tokens]


def test_a_stream_is_the_answer_in_pieces_with_its_counts(http: httpx.Client) -> None:
    whole = chat(http, "Hello", "first", max_tokens=40)
    asked = body("Hello", "first", max_tokens=40, stream=True, stream_options={"include_usage": True})
    with http.stream("POST", "/v1/chat/completions", json=asked) as response:
        documents = events(response)
    pieces = [choice for document in documents for choice in document["choices"]]
    assert "".join(piece["delta"].get("content", "") for piece in pieces) == content_of(whole)
    assert pieces[0]["delta"]["role"] == "assistant"
    assert [piece["finish_reason"] for piece in pieces if piece["finish_reason"]] == ["length"]
    assert documents[-1]["usage"] == whole["usage"]
    assert documents[-1]["choices"] == []


def test_a_stop_string_ends_the_answer_across_tokens(http: httpx.Client) -> None:
    long = content_of(chat(http, "Hello", "first", max_tokens=40))
    stop = long[5:8]
    first = chat(http, "Hello", "first", max_tokens=40, stop=[stop])["choices"][0]
    assert first["message"]["content"] == long[: long.index(stop)]
    assert first["finish_reason"] == "stop"
    asked = body("Hello", "first", max_tokens=40, stop=stop, stream=True)
    with http.stream("POST", "/v1/chat/completions", json=asked) as response:
        pieces = [document["choices"][0]["delta"].get("content", "") for document in events(response)]
    assert "".join(pieces) == long[: long.index(stop)], "nothing of it is shown before it is known"


def test_penalties_and_bias_change_what_is_chosen(http: httpx.Client) -> None:
    token = chat_tokens("z")[chat_tokens("z").index(2) - 1]  # of the letter z
    assert set(content_of(chat(http, logit_bias={str(token): 100}))) == {"z"}
    repeated = content_of(chat(http, logit_bias={str(token): 30}, frequency_penalty=2, max_tokens=40))
    assert len(set(repeated)) > 1
    assert content_of(chat(http, presence_penalty=2, max_tokens=40)) != content_of(chat(http, max_tokens=40))


@pytest.mark.parametrize("seed", range(3))
def test_json_by_a_schema_always_parses_and_fits(http: httpx.Client, seed: int) -> None:
    asked = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    answer = chat(http, response_format=asked, temperature=1.5, seed=seed, max_tokens=400)
    assert answer["choices"][0]["finish_reason"] == "stop"
    document = json.loads(content_of(answer))
    assert set(document) == {"colour", "sure", "n"}
    assert document["colour"] in ("red", "blue")
    assert isinstance(document["sure"], bool)


def test_a_schema_that_can_not_be_held_to_is_refused(http: httpx.Client) -> None:
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {"type": "string"}}}}
    status, error = refusal(http, response_format=asked)
    assert (status, error["param"]) == (400, "response_format")
    assert "not" in error["message"]


def test_what_is_not_obeyed_is_refused_by_name(http: httpx.Client) -> None:
    status, error = refusal(http, tools=[{"type": "function", "function": {"name": "f"}}])
    assert (status, error["param"], error["code"]) == (400, "tools", "unsupported_parameter")
    status, error = refusal(http, max_tokens=5_000)
    assert (status, error["code"]) == (400, "context_length_exceeded")
    status, error = refusal(http, messages=[{"role": "user", "content": "long " * 200}], max_tokens=None)
    assert (status, error["code"]) == (400, "context_length_exceeded")
    status, error = refusal(http, model="nobody")
    assert (status, error["code"]) == (404, "model_not_found")
    status, error = refusal(http, n=9)
    assert (status, error["param"]) == (400, "n")


def test_completions_of_several_prompts_keep_their_order(folder: Path, http: httpx.Client) -> None:
    asked = {"model": "second", "prompt": ["one", "two three"], "max_tokens": 6, "temperature": 0, "n": 2}
    answer = http.post("/v1/completions", json=asked | {"logprobs": 1}).json()
    tokenizer = make_tokenizer()
    for place, prompt in enumerate(("one", "one", "two three", "two three")):
        expected = by_transformers(folder, "second", tokenizer(prompt).input_ids, 6)
        choice = answer["choices"][place]
        assert (choice["index"], choice["text"]) == (
            place,
            tokenizer.decode(expected, skip_special_tokens=True),
        )
        assert len(choice["logprobs"]["token_logprobs"]) == len(choice["logprobs"]["text_offset"])


def test_a_client_that_goes_away_leaves_the_batch(
    http: httpx.Client, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, steps = worker._loaded.forward, []
    own = forward.step

    def slow_step(keys: list[int], tokens: list[int]) -> torch.Tensor:
        steps.append(len(keys))
        time.sleep(0.005)
        return own(keys, tokens)

    monkeypatch.setattr(forward, "step", slow_step)
    asked = body("Hello", logit_bias={"2": -100}, max_tokens=450)
    with http.stream("POST", "/v1/chat/completions", json=asked | {"stream": True}) as response:
        next(response.iter_lines())
    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/chat/completions", json=asked, timeout=0.2)
    deadline = time.monotonic() + 5
    while http.get("/health").json()["running"]:
        assert time.monotonic() < deadline
    assert len(steps) < 800, "neither was made to its end"
    assert content_of(chat(http)), "and all others go on"


def test_a_request_that_fails_ends_alone(
    http: httpx.Client, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = worker._loaded.forward
    own = forward.extend

    def fails(pieces: list[PromptChunk]) -> list[torch.Tensor]:
        if any(len(piece.tokens) > 100 for piece in pieces):
            raise RuntimeError("a tensor is odd")
        made: list[torch.Tensor] = own(pieces)
        return made

    monkeypatch.setattr(forward, "extend", fails)
    expected = content_of(chat(http))
    answers = together(http, [body("long " * 30), body()])
    assert "a tensor is odd" in answers[0]["error"]["message"]
    assert content_of(answers[1]) == expected


def test_a_model_without_a_template_answers_completions_alone(tmp_path: Path) -> None:
    write_model(tmp_path / "base", template=None)
    spec = spec_of(tmp_path, adapters=[], most_answer=4)
    answerer = load_answerer(spec)
    assert answerer.capabilities.kinds == ["completion"]
    with served.server(answerer, spec["socket"]), client(spec["socket"]) as http:
        status, error = refusal(http)
        assert status == 400
        assert "chat_template.jinja" in error["message"]
        asked = {"model": "base", "prompt": "a", "max_tokens": 3}
        assert http.post("/v1/completions", json=asked).status_code == 200
        asked = {"model": "base", "prompt": "a", "logit_bias": {"2": -100}}  # no number: the endpoint's limit
        assert http.post("/v1/completions", json=asked).json()["usage"]["completion_tokens"] == 4


def test_decisions_are_probabilities_of_the_options(http: httpx.Client) -> None:
    questions: Any = {
        "tone": {
            "type": "choice",
            "instructions": "Its tone?",
            "criteria": {"calm": None, "angry": "shouts"},
        },
        "urgent": {"type": "score", "criteria": ["can wait", "this week", "today"]},
    }
    asked = {"model": "first", "state": "WHERE IS MY ORDER", "questions": questions}
    answers = http.post("/v1/systemone", json=asked).json()["answers"]
    assert set(answers["tone"]["probabilities"]) == {"calm", "angry"}
    assert sum(answers["urgent"]["probabilities"].values()) == pytest.approx(1)
    questions["tone"]["criteria"] = ["calm", "angry"]
    assert http.post("/v1/systemone", json=asked).status_code == 422


def test_others_are_answered_while_a_template_is_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The template is held in the middle of its loop until another request is answered to its end."""
    write_model(tmp_path / "base", template="{% for m in messages %}held{% endfor %}", **served.LIVELY)
    spec = spec_of(tmp_path, adapters=[])
    began, answered, own = threading.Event(), threading.Event(), template_limits.check_time

    @functools.wraps(own)  # a compiled template imports it by its name
    def held_tick() -> None:
        began.set()
        answered.wait(60)
        own()

    monkeypatch.setattr(template_limits, "check_time", held_tick)
    monkeypatch.setattr(template_limits, "SECONDS", 0.0)
    plain = {"model": "base", "prompt": "Hello", "max_tokens": 2}
    with (
        served.server(load_answerer(spec), spec["socket"]),
        client(spec["socket"]) as http,
        ThreadPoolExecutor(1) as threads,
    ):
        asked = threads.submit(http.post, "/v1/chat/completions", json=body())
        try:
            assert began.wait(20)
            assert http.get("/health", timeout=20).status_code == 200
            assert http.post("/v1/completions", json=plain, timeout=20).status_code == 200
            assert not asked.done()
        finally:
            answered.set()
        assert "took more than" in asked.result().json()["error"]["message"]


@pytest.mark.parametrize("joins", [True, False])
def test_who_comes_with_one_that_fails_is_shown_its_prompt_once(
    http: httpx.Client, worker: Any, monkeypatch: pytest.MonkeyPatch, joins: bool
) -> None:
    """Also where prompts are not shown together, and those before it have gone on already."""
    forward = worker._loaded.forward
    own = forward.extend
    expected = content_of(chat(http))

    def one_by_one(pieces: list[PromptChunk]) -> list[torch.Tensor]:
        if joins and any(len(piece.tokens) > 100 for piece in pieces):
            raise RuntimeError("a tensor is odd")
        made: list[torch.Tensor] = []
        for piece in pieces:
            if len(piece.tokens) > 100:
                raise RuntimeError("a tensor is odd")
            made += own([piece])
        return made

    monkeypatch.setattr(forward, "batches_prompts", joins)
    monkeypatch.setattr(forward, "extend", one_by_one)
    answers = together(http, [body(), body("long " * 30), body(), body("long " * 30), body()])
    assert [content_of(answers[place]) for place in (0, 2, 4)] == [expected] * 3
    assert all("a tensor is odd" in answers[place]["error"]["message"] for place in (1, 3))
