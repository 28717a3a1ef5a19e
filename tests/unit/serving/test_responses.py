"""Responses, embeddings and functions through the gateway: OpenAI's client reads them, the log keeps them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest
from starlette.routing import Route

from engine.models.tokenization.tool_turns import format_calls
from engine.serving.gateway.answer_forms import ResponsesForm, convert_to_chat
from engine.serving.gateway.answer_reading import AnswerObserver
from engine.serving.gateway.app import build
from engine.serving.gateway.request_bodies import count_prompt_bytes
from engine.serving.protocol.answers import RequestError
from engine.serving.protocol.request_bodies import ChatBody, parse
from store.serving.schemas import EndpointConfig
from tests.unit.serving.served_endpoint import KEY, ServedEndpoint, backend, route, served
from tests.unit.store_samples import row_of

FIELDS = ["stream", "stream_options", "max_tokens", "temperature", "top_p", "tools", "tool_choice",
          "parallel_tool_calls", "response_format"]  # fmt: skip
TEXT = "This is a known answer"
WEATHER: Any = {
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
FLAT: Any = {"type": "function", **WEATHER}
NESTED: Any = {"type": "function", "function": WEATHER}
ARGUMENTS = '{"city": "Oslo"}'


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedEndpoint]:
    backends = [
        backend("text", fields=FIELDS),
        backend("calls", fields=FIELDS, calls={"weather": ARGUMENTS}, nats=-0.5, invalid_calls=1),
        backend("cut", fields=FIELDS, reason="length"),
        backend("broken", fields=FIELDS, broken="after"),
        backend("plain"),
        backend("vectors", kinds=["embedding"], fields=["encoding_format"]),
    ]
    routes = [route("live", "text")]
    with served(tmp_path_factory.mktemp("e"), backends, routes) as endpoint:
        config = endpoint.config
        others = [each.backend_id for each in backends[1:]]
        config["models"] += [{"name": name, "routes": [route("live", name)]} for name in others]
        config["asked_at"] = 1.0
        endpoint.write_config(config)
        endpoint.wait_for(lambda: endpoint.state().get("asked_at") == 1.0)
        yield endpoint


@pytest.fixture(scope="module")
def client(endpoint: ServedEndpoint) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{endpoint.address}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def test_a_response_is_made_and_its_id_takes_feedback(
    client: openai.OpenAI, endpoint: ServedEndpoint
) -> None:
    response = client.responses.create(
        model="m", input="Hello", instructions="Be short.", max_output_tokens=9, temperature=0.5, store=False
    )
    assert (response.output_text, response.status, response.model) == (TEXT, "completed", "text@1")
    assert response.usage
    assert (response.usage.input_tokens, response.usage.output_tokens) == (7, 5)
    assert (response.instructions, response.temperature) == ("Be short.", 0.5)
    assert (
        response.model_extra is None
        or "store" not in response.model_extra
        or not response.model_extra["store"]
    )
    asked = endpoint.seen("text")["asked"][-1]
    assert asked["messages"] == [
        {"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"}
    ]  # fmt: skip
    assert (asked["max_tokens"], asked["temperature"]) == (9, 0.5)
    assert endpoint.post("feedback", request_id=response.id, thumb="up").status_code == 200
    assert endpoint.lines()[-1]["request_id"] == response.id


def test_a_streamed_response_is_put_together_by_the_client(client: openai.OpenAI) -> None:
    with client.responses.stream(model="m", input=[{"role": "user", "content": "Hello"}]) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert kinds.count("response.output_text.delta") == 5
    assert final.output_text == TEXT
    assert final.usage
    assert final.usage.total_tokens == 12


def test_an_answer_that_was_cut_is_incomplete(client: openai.OpenAI) -> None:
    *_, last = client.responses.create(model="cut", input="Hello", stream=True)
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details
    assert last.response.incomplete_details.reason == "max_output_tokens"


def test_a_response_calls_functions_and_takes_their_results(
    client: openai.OpenAI, endpoint: ServedEndpoint
) -> None:
    with client.responses.stream(model="calls", input="Wet?", tools=[FLAT | {"strict": True}]) as stream:
        called = [
            item for event in stream if event.type == "response.completed" for item in event.response.output
        ]
    message, call = called
    assert (message.type, call.type, call.name, json.loads(call.arguments)) == (
        "message", "function_call", "weather", {"city": "Oslo"}
    )  # fmt: skip
    whole = client.responses.create(model="calls", input="Wet?", tools=[FLAT]).output
    items: Any = [
        {"role": "user", "content": "Wet?"},
        *(item.model_dump(exclude_none=True) for item in whole),
    ]
    items.append({"type": "function_call_output", "call_id": whole[1].call_id, "output": "rain"})
    client.responses.create(model="m", input=items, tools=[FLAT])
    turns = endpoint.seen("text")["asked"][-1]["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "tool"]
    assert turns[1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": ARGUMENTS}
    assert turns[2] == {"role": "tool", "tool_call_id": "call0", "content": "rain"}
    assert endpoint.seen("text")["asked"][-1]["tools"] == [NESTED]


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "whole conversation"),
        ({"store": True}, "store", "not stored"),
        ({"background": True}, "background", "not stored"),
        ({"input": []}, "input", "list of items"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input", "item_reference"),
        ({"reasoning": {"effort": "low"}}, "reasoning", "nothing here"),
        ({"max_output_tokens": 10**6}, "max_output_tokens", "limit"),
        ({"tools": [{"type": "web_search"}]}, "tools", "functions alone"),
        ({"text": {"verbosity": "low"}}, "text", "format"),
        ({"text": {"verbosity": ["medium"]}}, "text", "format"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options", "nothing here"),
    ],
)
def test_what_a_response_can_not_be_is_refused_by_its_name(
    client: openai.OpenAI, fields: Any, param: str, words: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=words) as refused:
        client.responses.create(**{"model": "m", "input": "Hello", **fields})
    assert refused.value.param == param


def test_a_response_whose_backend_breaks_off_ends_with_an_error(
    client: openai.OpenAI, endpoint: ServedEndpoint
) -> None:
    with pytest.raises(openai.APIError, match="closing mark"):
        list(client.responses.create(model="broken", input="Hello", stream=True))
    assert endpoint.lines()[-1]["status"] == 502


def test_a_cancelled_response_is_closed_at_its_backend(endpoint: ServedEndpoint, tmp_path: Path) -> None:
    slow = backend("slow", fields=FIELDS, pause=0.2, words=["a"] * 100)
    with served(tmp_path / "slow", [slow], [route("live", "slow")]) as own:
        body = {"model": "m", "input": "Hello", "stream": True}
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx.stream("POST", f"{own.address}/v1/responses", json=body, headers=headers) as answer:
            next(answer.iter_lines())
        own.wait_for(lambda: own.seen("slow")["closed"] == 1)
        own.wait_for(lambda: own.lines())
        assert own.lines()[-1]["error"] == "client_gone"


@pytest.mark.parametrize("stream", [False, True])
def test_the_log_keeps_calls_as_rows_do_and_counts_mistakes(
    client: openai.OpenAI, endpoint: ServedEndpoint, stream: bool
) -> None:
    turns: Any = [{"role": "user", "content": "Wet?"}]
    answer = client.chat.completions.create(model="calls", messages=turns, tools=[NESTED], stream=stream)
    list(answer) if stream else None
    line = endpoint.lines()[-1]
    assert line["messages"] == [{"role": "tools", "content": json.dumps([NESTED])}, *turns]
    call: Any = {"name": "weather", "arguments": {"city": "Oslo"}, "id": "call0"}
    assert json.loads(line["output"]) == json.loads(format_calls(TEXT, [call]))
    assert (line["calls"], line["invalid_calls"], line["finish_reason"]) == (1, 1, "tool_calls")


def test_functions_for_a_model_without_them_are_refused_with_the_alternative(client: openai.OpenAI) -> None:
    turns: Any = [{"role": "user", "content": "Wet?"}]
    with pytest.raises(openai.BadRequestError, match="response_format") as refused:
        client.chat.completions.create(model="plain", messages=turns, tools=[NESTED])
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "tools")
    asked = client.chat.completions.create(model="plain", messages=turns, tools=[], tool_choice="none")
    assert asked.choices[0].message.content == TEXT


def test_results_of_calls_go_to_models_with_functions_alone(client: openai.OpenAI) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
    turns: Any = [
        {"role": "user", "content": "Wet?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "rain"},
    ]
    assert client.chat.completions.create(model="m", messages=turns).choices[0].message.content == TEXT
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="plain", messages=turns)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "tools")


def test_parallel_calls_are_forbidden_where_there_are_functions(
    client: openai.OpenAI, endpoint: ServedEndpoint
) -> None:
    turns: Any = [{"role": "user", "content": "Wet?"}]
    client.chat.completions.create(model="m", messages=turns, tools=[NESTED], parallel_tool_calls=False)
    assert endpoint.seen("text")["asked"][-1]["parallel_tool_calls"] is False


def test_a_hostile_schema_never_reaches_a_backend(client: openai.OpenAI, endpoint: ServedEndpoint) -> None:
    before = len(endpoint.seen("text")["asked"])
    deep: Any = {"type": "object"}
    for _ in range(200):
        deep = {"type": "object", "properties": {"a": deep}}
    loop = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/a"}},
        "$defs": {"a": {"$ref": "#/$defs/a"}},
    }
    for schema in (deep, loop, {"type": "object", "properties": {"a": {"pattern": "(a"}}}):
        tool: Any = {"type": "function", "function": {"name": "f", "parameters": schema}}
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "?"}], tools=[tool]
            )
        assert refused.value.param == "tools"
    assert len(endpoint.seen("text")["asked"]) == before


def test_functions_are_held_of_a_keys_tokens_as_templates_write_them() -> None:
    tools = [NESTED] * 3
    body = {"messages": [{"role": "user", "content": "x"}], "tools": tools}
    assert count_prompt_bytes(body) - count_prompt_bytes({**body, "tools": None}) > len(
        json.dumps(tools, indent=4)
    )


def test_embeddings_are_counted_and_a_writing_model_names_the_alternative(
    client: openai.OpenAI, endpoint: ServedEndpoint
) -> None:
    answer = client.embeddings.create(model="vectors", input=["a", "b"], encoding_format="float")
    assert (answer.data[0].embedding, answer.model) == ([0.6, 0.8], "vectors@1")
    line = endpoint.lines()[-1]
    assert (line["kind"], line["prompt_tokens"], line["tokens"]) == ("embedding", 7, 7)
    assert line["messages"] == [{"role": "user", "content": '["a", "b"]'}]
    with pytest.raises(openai.BadRequestError, match="serve one, such as a BERT"):
        client.embeddings.create(model="m", input="a")
    with pytest.raises(openai.BadRequestError, match="embedding alone, not chat"):
        client.responses.create(model="vectors", input="a")


def test_every_route_but_health_and_readiness_takes_a_key(endpoint: ServedEndpoint) -> None:
    gateway: Any = SimpleNamespace(config=row_of(EndpointConfig, allow_host=[]))
    routes = [each for each in build(gateway).routes if isinstance(each, Route)]
    assert len(routes) == 10
    for each in routes:
        path, method = each.path.replace("{model:path}", "m"), next(iter(each.methods - {"HEAD"}))
        for headers in ({}, {"Authorization": "Bearer tbe_wrong"}):
            answer = httpx.request(method, endpoint.address + path, headers=headers, json={"model": "m"})
            keyless = path in ("/health", "/ready")
            assert (answer.status_code == 401) != keyless, path


HEAD: Any = {"id": "resp_1", "created": 1, "model": "m@1"}


def events_of(form: ResponsesForm, *choices: Any) -> list[Any]:
    """The events of a stream of such choices, as the caller gets them."""
    raw = b"".join(form.format_chunk({**HEAD, "choices": [{"index": 0, **choice}]}) for choice in choices)
    raw += form.format_end(AnswerObserver(), HEAD)
    return [json.loads(line[6:]) for line in raw.splitlines() if line.startswith(b"data: ")]


def piece(index: int, arguments: str, **more: Any) -> Any:
    call = {"index": index, **more, "function": {"name": "f", "arguments": arguments}}
    return {"delta": {"tool_calls": [call]}}


def test_calls_that_take_turns_and_repeat_their_ids_are_put_together() -> None:
    text: Any = {"delta": {"content": "so"}}
    pieces = [piece(0, "{", id="a"), piece(1, "[", id="b"), piece(0, "}", id="a"), text, piece(1, "]")]
    events = events_of(ResponsesForm(), *pieces)
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["function_call", "function_call", "message"]
    assert [(call["call_id"], call["name"], call["arguments"]) for call in output[:2]] == [
        ("a", "f", "{}"), ("b", "f", "[]")
    ]  # fmt: skip
    done = [event["output_index"] for event in events if event["type"] == "response.output_item.done"]
    assert sorted(done) == [0, 1, 2]
    assert [event["sequence_number"] for event in events] == [*range(len(events))]


@pytest.mark.parametrize("stream", [True, False])
def test_a_classifier_that_abstains_says_so(stream: bool) -> None:
    form, beside = ResponsesForm(), {"classification": {"label": None, "abstained": True}}
    if stream:
        form.format_chunk({**HEAD, "choices": [], **beside})
        response = json.loads(form.format_end(AnswerObserver(), HEAD).split(b"data: ")[-1])["response"]
    else:
        choice = {"index": 0, "message": {"content": ""}, "finish_reason": "stop"}
        response = json.loads(form.format_answer({**HEAD, "choices": [choice], **beside}))
    assert response["classification"] == beside["classification"]


def test_a_stream_without_pieces_is_a_whole_response() -> None:
    created, _, completed = events_of(ResponsesForm())
    assert (created["type"], completed["type"]) == ("response.created", "response.completed")
    response = completed["response"]
    assert (response["id"], response["model"], response["created_at"]) == ("resp_1", "m@1", 1)


@pytest.mark.parametrize(
    ("param", "named"),
    [("messages.0.content", "input"), ("max_tokens", "max_output_tokens"), ("seed", "seed")],
)
def test_a_backends_refusal_names_the_field_as_the_caller_does(param: str, named: str) -> None:
    refused = json.loads(
        ResponsesForm().format_error(json.dumps({"error": {"message": "?", "param": param}}))
    )
    assert refused == {"error": {"message": "?", "param": named}}
    for other in ("no JSON", "[]", '{"error": "?"}', '{"error": {"param": 5}}', '{"error": {}}'):
        assert ResponsesForm().format_error(other).decode() == other


@pytest.mark.parametrize(
    "fields",
    [
        {"text": {"format": {"type": "text"}, "verbosity": "medium"}},
        {"text": {"verbosity": None}},
        {"stream_options": {"include_obfuscation": False}},
    ],
)
def test_what_is_done_anyway_may_be_asked_for(fields: Any) -> None:
    usual = convert_to_chat({"model": "m", "input": "Hello"})
    assert convert_to_chat({"model": "m", "input": "Hello", **fields}) == usual


def test_a_conversation_comes_back_as_clients_write_answers() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns: Any = [
        {"role": "user", "content": "Wet?"},
        {"role": "assistant", "content": "So?", "tool_calls": [], "annotations": [], "audio": None},
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "name": "f", "content": "rain"},
    ]
    asked = parse(ChatBody, {"model": "m", "messages": turns})
    assert [turn.text for turn in asked.messages] == ["Wet?", "So?", "", "rain"]
    assert [bool(turn.tool_calls) for turn in asked.messages] == [False, False, True, False]


@pytest.mark.parametrize(
    "more", [{"name": "Ann"}, {"annotations": [1]}, {"tool_calls": []} | {"content": None}, {"audio": {}}]
)
def test_what_a_turn_says_and_nobody_obeys_is_refused(more: Any) -> None:
    turn = {"role": "assistant", "content": "So?", **more}
    with pytest.raises(RequestError):
        parse(ChatBody, {"model": "m", "messages": [turn]})
