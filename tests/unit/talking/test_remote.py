"""Endpoints: pieces with their probabilities, without where there are none, and a key that nobody sees."""

from __future__ import annotations

from typing import Any

import pytest

from engine.playground.answers import RemoteAnswer
from store.core.address_policy import PUBLIC
from store.core.errors import ConfigError, ModelError
from store.core.metric_options import Endpoint
from store.playground.config import ChatSampling
from tests.unit.judge_server import Answer, chunk, judging, streamed

ASKED: Any = [{"role": "user", "content": "Hello"}]
KEY = "sk-very-secret"


def events(base_url: str, **sampling: Any) -> list[Any]:
    endpoint = Endpoint.parse({"base_url": base_url, "model": "m", "key_env": "PLAYGROUND_TEST_KEY"})
    return list(RemoteAnswer(endpoint, ASKED, ChatSampling.parse(sampling), PUBLIC).stream_events())


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYGROUND_TEST_KEY", KEY)


def test_pieces_come_with_their_probabilities() -> None:
    with judging(lambda text, number: streamed(chunk("Hi", -0.5), chunk(" you", -1.0, "length"))) as server:
        received = events(server.base_url, max_new_tokens=7, temperature=0.5, stop=["x"])
        (asked,) = server.requests
    assert [event["type"] for event in received] == ["begin", "token", "token", "end"]
    assert received[1] == {
        "type": "token",
        "text": "Hi",
        "logprob": -0.5,
        "top": [{"text": "Ho", "logprob": -2.0}],
    }
    assert received[-1]["reason"] == "length"
    assert received[-1]["figures"]["tokens"] == 2
    assert asked["stream"] is True
    assert (asked["max_tokens"], asked["temperature"], asked["stop"]) == (7, 0.5, ["x"])
    assert "top_k" not in asked
    assert server.keys == [f"Bearer {KEY}"]


def test_an_endpoint_that_knows_no_probabilities_is_asked_without() -> None:
    def reply(text: str, number: int) -> Answer:
        return (400, {}, b"unknown field logprobs") if number == 1 else streamed(chunk("Hi", ended="stop"))

    with judging(reply) as server:
        received = events(server.base_url)
        assert ["logprobs" in request for request in server.requests] == [True, False]
    assert received[1] == {"type": "token", "text": "Hi", "logprob": None, "top": []}
    assert received[-1]["reason"] == "end"


def test_what_it_refuses_is_told_without_the_key() -> None:
    with (
        judging(lambda text, number: (401, {}, f"bad key {KEY}".encode())) as server,
        pytest.raises(ModelError) as refused,
    ):
        events(server.base_url)
    assert "HTTP 401: bad key [key]" in refused.value.message
    with pytest.raises(ModelError, match="can't be reached"):
        events("http://127.0.0.1:9/v1")


def test_a_key_that_is_not_there_is_a_field_at_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLAYGROUND_TEST_KEY")
    with pytest.raises(ConfigError, match="PLAYGROUND_TEST_KEY is not set"):
        events("http://127.0.0.1:9/v1")


def test_rubbish_is_said_to_be_no_answer() -> None:
    with (
        judging(lambda text, number: (200, {}, b'data: {"choices": [5]}\n\n')) as server,
        pytest.raises(ModelError, match="something other than a chat completion chunk"),
    ):
        events(server.base_url)


def test_it_can_be_stopped() -> None:
    with judging(lambda text, number: streamed(*[chunk("x", -1.0)] * 50)) as server:
        endpoint = Endpoint.parse({"base_url": server.base_url, "model": "m"})
        answer = RemoteAnswer(endpoint, ASKED, ChatSampling(), PUBLIC)
        received = []
        for event in answer.stream_events():
            received.append(event)
            if len(received) == 5:
                answer.stop()
    assert sum(event["type"] == "token" for event in received) <= 6
