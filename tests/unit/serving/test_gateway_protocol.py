"""OpenAI's protocol: its own client works unchanged, and what nobody would obey is refused by its name."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from engine.serving.gateway.request_bodies import extract_error_message
from engine.serving.protocol.answers import RequestError
from engine.serving.protocol.request_bodies import ChatBody, parse
from tests.unit.serving.served_endpoint import KEY, ServedEndpoint, backend, route, served

TEXT = "This is a known answer"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedEndpoint]:
    labels = {"label": "card_lost", "confidence": 0.4, "abstained": True}
    backends = [backend("b"), backend("labels", kinds=["labels"], label=labels)]
    with served(tmp_path_factory.mktemp("e"), backends, [route("live", "b")]) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def client(endpoint: ServedEndpoint) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{endpoint.address}/v1", api_key=KEY, max_retries=0) as client:
        yield client


MESSAGES: Any = [{"role": "user", "content": "Write to ada@example.org"}]


def test_the_official_client_asks_and_streams(client: openai.OpenAI, endpoint: ServedEndpoint) -> None:
    whole = client.chat.completions.create(model="m", messages=MESSAGES, user="u1", metadata={"group": "g"})
    assert whole.choices[0].message.content == TEXT
    assert (whole.model, whole.usage and whole.usage.total_tokens) == ("b@1", 12)
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert client.completions.create(model="m", prompt="x").choices[0].text == TEXT
    assert [model.id for model in client.models.list()] == ["m"]
    assert client.models.retrieve("m").id == "m"
    first, second, third = endpoint.lines()[:3]
    assert (first["request_id"], second["request_id"]) == (whole.id, chunks[0].id)
    assert (first["group"], first["output"], first["completion_tokens"]) == ("g", TEXT, 5)
    assert first["user"]
    assert "u1" not in json.dumps(first)
    assert (second["prompt_tokens"], second["finish_reason"], second["kind"]) == (7, "stop", "chat")
    assert 0 < second["first_token_seconds"] <= second["seconds"]
    assert (third["kind"], third["messages"][0]["content"]) == ("completion", "x")


def test_usage_of_a_stream_comes_where_it_was_asked_for(client: openai.OpenAI) -> None:
    asked = client.chat.completions.create(
        model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    last = list(asked)[-1]
    assert last.usage
    assert last.usage.total_tokens == 12
    assert not any(
        chunk.usage for chunk in client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    )


def test_a_field_that_asks_for_what_is_done_anyway_is_taken(
    client: openai.OpenAI, endpoint: ServedEndpoint
) -> None:
    whole = client.chat.completions.create(
        model="m", messages=MESSAGES, service_tier="auto", store=False, parallel_tool_calls=False
    )
    assert whole.choices[0].message.content == TEXT
    assert not {"service_tier", "store", "parallel_tool_calls"} & set(endpoint.seen("b")["asked"][-1])
    for field, value in {"service_tier": "flex", "store": True, "parallel_tool_calls": 0}.items():
        refused = endpoint.post(**{field: value})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, field)


@pytest.mark.parametrize(
    ("status", "answered", "code"),
    [(500, 502, "backend_failed"), (507, 502, "backend_failed"), (503, 503, "backend_busy")],
)
def test_a_failed_backend_is_an_error_in_the_form_of_openai(
    tmp_path: Path, status: int, answered: int, code: str
) -> None:
    """Its own status and body were passed on, whatever they were."""
    with served(tmp_path / "e", [backend("b", status=status)], [route("live", "b")]) as endpoint:
        answer = endpoint.post()
        assert (answer.status_code, answer.json()["error"]["code"]) == (answered, code)
        assert answer.json()["error"]["type"] == "server_error"
        assert "stubbed" in answer.json()["error"]["message"]
        with (
            openai.OpenAI(base_url=f"{endpoint.address}/v1", api_key=KEY, max_retries=0) as client,
            pytest.raises(openai.InternalServerError, match="stubbed"),
        ):
            client.chat.completions.create(model="m", messages=MESSAGES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"error": {"message": "no \\n room"}}', "no room"),
        (b'{"error": "plain"}', "plain"),
        (b'{"error": "' + b"x" * 9_999 + b'"}', "x" * 500),
        *((content, "") for content in (b"<html>", b"[1]", b'{"error": 3}', b"[" * 100_000)),
    ],
)
def test_what_a_failed_backend_says_is_read_in_any_form(content: bytes, message: str) -> None:
    assert extract_error_message(content) == message


def test_a_picture_is_refused_in_a_sentence() -> None:
    parts = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    with pytest.raises(RequestError) as refused:
        parse(ChatBody, {"model": "m", "messages": [{"role": "user", "content": parts}]})
    assert refused.value.message == (
        "messages.0.content: part 1 is an image, and this model reads text alone; leave it out."
    )


def test_what_would_be_ignored_is_refused_by_name(client: openai.OpenAI, endpoint: ServedEndpoint) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="m", messages=MESSAGES, presence_penalty=1)
    assert refused.value.param == "presence_penalty"
    assert refused.value.code == "unsupported_parameter"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="m", messages=MESSAGES, metadata={"team": "x"})
    assert refused.value.param == "metadata.team"
    assert endpoint.post(tools=None).status_code == 200  # a null asks for nothing
    assert "presence_penalty" not in json.dumps(endpoint.seen("b"))


def test_errors_are_those_of_the_protocol(client: openai.OpenAI, endpoint: ServedEndpoint) -> None:
    with pytest.raises(openai.NotFoundError, match="There are: m"):
        client.chat.completions.create(model="gpt", messages=MESSAGES)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    before = len(endpoint.lines())
    assert endpoint.post(key="wrong").status_code == 401
    assert len(endpoint.lines()) == before  # whoever has no key fills no disk
    with pytest.raises(openai.BadRequestError, match="limit is 64"):
        client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=65)
    assert endpoint.post("nothing").json()["error"]["code"] == "unknown_url"
    assert httpx.get(f"{endpoint.address}/v1/chat/completions").status_code == 405


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400), (b"[]", 400), (b"[" * 60_000, 400), (b'{"model": NaN}', 400), (b"", 400),
        (b'{"model": "m", "messages": "\\ud800"}', 400), (b'{"model": ' + b"9" * 6000 + b"}", 400),
        (b'{"a": "' + b"x" * 70_000 + b'"}', 413), (b'{"model": "m"}', 400), (b"\xff\xfe", 400),
    ],
)  # fmt: skip
def test_bodies_that_are_none(endpoint: ServedEndpoint, body: bytes, status: int) -> None:
    answer = httpx.post(
        f"{endpoint.address}/v1/chat/completions", content=body, headers={"Authorization": f"Bearer {KEY}"}
    )
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_schema_without_end_is_refused(endpoint: ServedEndpoint) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}}
    answer = endpoint.post(response_format=wanted)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "response_format")
    assert "refers to itself" in answer.json()["error"]["message"]


def test_foreign_names_are_refused(endpoint: ServedEndpoint) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        answer = httpx.get(f"{endpoint.address}/v1/models", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_host")


def test_every_answer_says_to_a_browser_that_it_is_no_page(endpoint: ServedEndpoint) -> None:
    answers = [
        endpoint.post(),
        httpx.get(f"{endpoint.address}/health"),
        httpx.get(f"{endpoint.address}/nothing"),
        httpx.get(f"{endpoint.address}/v1/models"),
        httpx.get(f"{endpoint.address}/health", headers={"Host": "evil.example"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 401, 403]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_feedback_is_redacted_where_the_texts_are(tmp_path: Path) -> None:
    with served(tmp_path / "e", [backend("b")], [route("live", "b")], redact=True) as endpoint:
        request_id = endpoint.post().json()["id"]
        given = {"correction": "Write to ada@example.org", "comment": "or bob@example.org"}
        assert endpoint.post("feedback", request_id=request_id, **given).status_code == 200
        (line,) = endpoint.lines("feedback")
    assert (line["text"], line["comment"]) == ("Write to [EMAIL]", "or [EMAIL]")


def test_feedback_names_a_request_of_this_endpoint(endpoint: ServedEndpoint) -> None:
    request_id = endpoint.post().json()["id"]
    assert endpoint.post("feedback", request_id=request_id, thumb="down", comment="no").status_code == 200
    assert endpoint.post("feedback", request_id=request_id, label="card").status_code == 200
    thumb, label = endpoint.lines("feedback")
    assert (thumb["kind"], thumb["value"], thumb["comment"], thumb["person_id"]) == (
        "thumb",
        0.0,
        "no",
        "ada",
    )
    assert (label["kind"], label["text"], label["request_id"]) == ("label", "card", request_id)
    unknown = endpoint.post("feedback", request_id=f"{request_id[:-1]}x", thumb="up")
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "request_id")
    for wrong in (
        {},
        {"thumb": 3},
        {"score": True},
        {"score": 10**400},
        {"thumb": "up", "score": 1},
        {"stars": 5},
    ):
        assert endpoint.post("feedback", request_id=request_id, **wrong).status_code == 400


def test_decisions_and_labels_pass_through_and_are_written_down(endpoint: ServedEndpoint) -> None:
    answer = endpoint.post("systemone", model="m", state="s", questions=[{"type": "noul", "name": "q"}])
    assert answer.json()["answers"]["q"]["probabilities"] == {"a": 0.8, "b": 0.2}
    line = endpoint.lines()[-1]
    assert (line["kind"], line["label"], line["confidence"]) == ("decision", "a", 0.8)
    endpoint.config["models"].append({"name": "c", "routes": [route("live", "labels")]})
    endpoint.write_config(endpoint.config)
    endpoint.wait_for(lambda: endpoint.post(model="c").status_code == 200)
    line = endpoint.lines()[-1]
    assert (line["kind"], line["label"], line["abstained"]) == ("labels", "card_lost", True)
    assert (
        endpoint.post("completions", model="c", prompt="x").json()["error"]["code"] == "unsupported_endpoint"
    )


def test_a_caller_that_sends_a_head_and_no_body_holds_nobody_up(endpoint: ServedEndpoint) -> None:
    host, port = endpoint.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n".encode())
        assert endpoint.post().status_code == 200
