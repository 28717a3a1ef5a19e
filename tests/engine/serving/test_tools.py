"""Functions in chats: asked and answered as training shows them, by OpenAI's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tokenizers import AddedToken

from engine.data.training_rows import has_function_calls
from engine.models.tokenization.rendering import render_conversation
from engine.models.tokenization.tool_turns import format_calls
from engine.serving.protocol.tools import MAX_TOOLS
from engine.serving.torch_backend.answering import load_answerer
from store.core.home import Home
from tests.call_templates import HERMES, LLAMA, MISTRAL, XML
from tests.engine.serving.scripted import ScriptedForward, scripted
from tests.engine.serving.served import spec_of
from tests.tiny import CHATML, make_tokenizer, write_model, write_rows

Served = tuple[ScriptedForward, openai.OpenAI]
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "description": "Of a city.", "parameters": PARAMETERS},
}
CLOCK: Any = {"type": "function", "function": {"name": "clock"}}
ASKED: Any = {"model": "base", "messages": [{"role": "user", "content": "Is it wet?"}], "temperature": 0}
CALL = '{"name": "weather", "arguments": {"city": "Oslo"}}'
WRITTEN = {  # how a model of each form calls, and that it calls twice
    "hermes": (HERMES, f"<tool_call>\n{CALL}\n</tool_call>"),
    "llama": (LLAMA, '{"name": "weather", "parameters": {"city": "Oslo"}}'),
    "mistral": (MISTRAL, f'[TOOL_CALLS] [{CALL[:-1]}, "id": "abcdefghi"}}]'),
}


def tokenizer_of(template: str) -> Any:
    """With the marks of calls as tokens, as their models have them: those of Mistral are special ones."""
    tokenizer = make_tokenizer(template)
    marks = [AddedToken(mark, special=False) for mark in ("<tool_call>", "</tool_call>")]
    tokenizer.add_tokens([*marks, AddedToken("[TOOL_CALLS]", special=True)])
    return tokenizer


@pytest.fixture(scope="module", params=[*WRITTEN])
def each(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    template, text = WRITTEN[request.param]
    with scripted(tmp_path_factory.mktemp(request.param), tokenizer_of(template)) as (model, client):
        model.text = text
        yield model, client
        model.text = text


@pytest.fixture
def hermes(tmp_path: Path) -> Iterator[Served]:
    with scripted(tmp_path, tokenizer_of(HERMES)) as both:
        yield both


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(**{**ASKED, "tools": [WEATHER, CLOCK], **fields})


def refusal(client: openai.OpenAI, **fields: Any) -> Any:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **fields)
    return refused.value


def test_a_call_of_each_form_reaches_the_client(each: Served) -> None:
    choice = ask(each[1]).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name) == ("function", "weather")
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    assert len(call.id) == 9
    assert call.id.isalnum()  # as templates of Mistral want it


def test_the_client_puts_a_streamed_call_together(each: Served) -> None:
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    with each[1].chat.completions.stream(**ASKED, tools=[strict]) as stream:
        names = [event.name for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion()
    assert names == ["weather"]
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.choices[0].message.tool_calls[0].function.parsed_arguments == {"city": "Oslo"}


def test_results_are_shown_as_training_shows_them(each: Served) -> None:
    model, client = each
    called = ask(client).choices[0].message
    turns = [*ASKED["messages"], called]
    turns.append({"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "rain"})
    script, model.text = model.text, "Yes."
    try:
        answer = ask(client, messages=turns).choices[0]
    finally:
        model.text = script
    assert (answer.message.content, answer.finish_reason) == ("Yes.", "stop")
    call: Any = {"id": called.tool_calls[0].id, "name": "weather", "arguments": {"city": "Oslo"}}
    row: Any = [
        {"role": "tools", "content": json.dumps([WEATHER, CLOCK])},
        {"role": "user", "content": "Is it wet?"},
        {"role": "assistant", "content": format_calls("", [call])},
        {"role": "tool", "content": "rain"},
    ]
    tokenizer = model._tokenizer
    assert render_conversation(tokenizer, row, generation_prompt=True) in model.prompts


def test_a_required_and_a_named_function_are_called_whatever_the_model_wants(each: Served) -> None:
    model, client = each
    script, model.text = model.text, "I would rather talk."
    named: Any = {"type": "function", "function": {"name": "weather"}}
    short = {**PARAMETERS, "properties": {"city": {"enum": ["Oslo", "Rome"]}}}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": short}}, CLOCK]
    try:
        for choice in ("required", named):
            answer = ask(client, tools=tools, tool_choice=choice, max_tokens=200, parallel_tool_calls=False)
            assert answer.choices[0].finish_reason == "tool_calls"
            (call,) = answer.choices[0].message.tool_calls
            assert call.function.name == "weather" or choice == "required"
    finally:
        model.text = script


def test_none_shows_no_functions_and_reads_no_calls(hermes: Served) -> None:
    model, client = hermes
    model.text = WRITTEN["hermes"][1]
    answer = ask(client, tool_choice="none").choices[0]
    assert answer.finish_reason == "stop"
    assert answer.message.tool_calls is None
    assert answer.message.content == model.text
    assert "weather" not in model.prompts[-1]


def test_text_before_calls_is_content_and_several_calls_keep_their_order(hermes: Served) -> None:
    model, client = hermes
    first, second = CALL, '{"name": "clock", "arguments": {}}'
    model.text = f"Let me see.\n<tool_call>\n{first}\n</tool_call>\n<tool_call>\n{second}\n</tool_call>"
    whole = ask(client).choices[0].message
    assert whole.content == "Let me see."
    assert [call.function.name for call in whole.tool_calls] == ["weather", "clock"]
    single = ask(client, parallel_tool_calls=False).choices[0].message
    assert [call.function.name for call in single.tool_calls] == ["weather"]
    pieces = [chunk.choices[0].delta for chunk in ask(client, stream=True)]
    assert "".join(piece.content or "" for piece in pieces).strip() == "Let me see."
    starts = [call for piece in pieces for call in piece.tool_calls or () if call.id]
    assert [(call.index, call.function.name) for call in starts] == [(0, "weather"), (1, "clock")]


@pytest.mark.parametrize(
    ("text", "calls", "invalid"),
    [
        ('<tool_call>\n{"name": "weather", "arguments": {"days": "two"}}\n</tool_call>', 1, 1),
        ('<tool_call>\n{"name": "erase", "arguments": {}}\n</tool_call>', 0, 1),
        ('<tool_call>\n{"name": "weather", "arguments": {"city": \n</tool_call>', 0, 1),
        ('<tool_call>\n{"name": "weather", "arguments": "Oslo"}\n</tool_call>', 0, 1),
        ('<tool_call>\n{"name": "weather", "arguments": {"city": "\\ud800"}}\n</tool_call>', 0, 1),
        (f"<tool_call>\n{CALL}\n</tool_call>", 1, 0),
        ("It is </tool_call> dry.", 0, 0),
    ],
)
def test_what_is_no_call_stays_text_and_mistakes_are_counted(
    hermes: Served, text: str, calls: int, invalid: int
) -> None:
    model, client = hermes
    model.text = text
    raw = client.chat.completions.with_raw_response.create(**{**ASKED, "tools": [WEATHER, CLOCK]})
    message = raw.parse().choices[0].message
    assert len(message.tool_calls or ()) == calls
    assert bool(message.content) != bool(calls)
    assert raw.headers["x-tunebench-logprobs"].split()[2] == str(invalid)


def test_strict_arguments_always_fit_and_text_is_left_alone(hermes: Served) -> None:
    model, client = hermes
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    model.text = "It is < dry."
    assert ask(client, tools=[strict]).choices[0].message.content == model.text
    model.text = 'Well. <tool_call>\n{"name": "weather", "arguments": {"days": 7}}\n</tool_call>'
    answer = ask(client, tools=[strict], max_tokens=400).choices[0]
    (call,) = answer.message.tool_calls
    assert answer.message.content == "Well."
    assert "city" in json.loads(call.function.arguments)


@pytest.mark.parametrize("template", [CHATML, XML])
def test_a_model_whose_template_calls_nothing_refuses_with_the_alternative(
    tmp_path: Path, template: str
) -> None:
    with scripted(tmp_path, make_tokenizer(template)) as (_, client):
        error = refusal(client)
        assert (error.code, error.param) == ("unsupported_parameter", "tools")
        assert "response_format" in error.message


def test_a_model_trained_on_written_out_calls_calls_so(tmp_path: Path) -> None:
    with scripted(tmp_path, make_tokenizer(CHATML), calls_written=True) as (model, client):
        model.text = format_calls("", [{"name": "weather", "arguments": {"city": "Oslo"}}])
        (call,) = ask(client).choices[0].message.tool_calls
        assert json.loads(call.function.arguments) == {"city": "Oslo"}
        assert "Functions that can be called" in model.prompts[-1]


def function(name: str = "f", **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", **parameters}}}


LOOP: Any = {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}}


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"tools": [function(f"f{n}") for n in range(MAX_TOOLS + 1)]}, "tools", "at most 128"),
        ({"tools": [function("f", description="x" * 300_000)]}, "tools", "bytes"),
        ({"tools": [function("two words")]}, "tools", "name"),
        ({"tools": [function(), function()]}, "tools", "twice"),
        ({"tools": [function(**LOOP)]}, "tools", "never ends"),
        ({"tools": [function(properties={"a": {"type": "strnig"}})]}, "tools", "not a JSON schema"),
        ({"tools": [function(properties={"a": {"pattern": "(?=a)b"}})]}, "tools", "RE2"),
        ({"tools": [{"type": "web_search"}]}, "tools", "functions alone"),
        ({"tool_choice": "sometimes"}, "tool_choice", "required"),
        ({"tool_choice": {"type": "function", "function": {"name": "erase"}}}, "tool_choice", "erase"),
        ({"messages": [{"role": "tool", "tool_call_id": "x", "content": "?"}]}, "messages", "no such call"),
        ({"response_format": {"type": "json_object"}}, "response_format", "leave one out"),
    ],
)
def test_hostile_and_wrong_requests_are_refused_by_their_field(
    hermes: Served, fields: Any, field: str, words: str
) -> None:
    error = refusal(hermes[1], **fields)
    assert error.param == field
    assert words in error.message


def test_a_pattern_that_takes_python_for_ever_takes_no_time(hermes: Served) -> None:
    model, client = hermes
    tool = function("f", properties={"a": {"type": "string", "pattern": "^(a+)+$"}})
    arguments = {"a": "a" * 60 + "!"}  # beyond the age of the world for a matcher that backtracks
    model.text = "<tool_call>\n" + json.dumps({"name": "f", "arguments": arguments}) + "\n</tool_call>"
    answer = client.chat.completions.with_raw_response.create(**{**ASKED, "tools": [tool]})
    assert len(answer.parse().choices[0].message.tool_calls or ()) == 1
    assert answer.headers["x-tunebench-logprobs"].split()[2] == "1"


def test_calls_without_results_are_refused(hermes: Served) -> None:
    function_called = {"name": "weather", "arguments": "{}"}
    call = {"id": "a", "type": "function", "function": function_called}
    turns = [*ASKED["messages"], {"role": "assistant", "content": None, "tool_calls": [call]}]
    assert "has no result" in refusal(hermes[1], messages=turns).message
    broken = {**call, "function": {**function_called, "arguments": "{"}}
    turns[-1] = {"role": "assistant", "content": None, "tool_calls": [broken]}
    turns.append({"role": "tool", "tool_call_id": "a", "content": "rain"})
    assert "not the JSON of an object" in refusal(hermes[1], messages=turns).message


def test_a_call_that_is_held_back_tells_its_tokens_as_they_come(hermes: Served) -> None:
    """They are charged where the caller goes away before the call is whole, and no text of it has left."""
    model, client = hermes
    model.text = f"<tool_call>\n{CALL}\n</tool_call>"
    asked: Any = {**ASKED, "tools": [WEATHER], "stream": True}
    with client.chat.completions.with_streaming_response.create(**asked) as answer:
        lines = [*answer.iter_lines()]
    called = next(place for place, line in enumerate(lines) if "tool_calls" in line)
    tallies = [line.split() for line in lines[:called] if line.startswith(": logprobs")]
    assert int(tallies[-1][3]) > len(CALL)


@pytest.mark.parametrize("calls", [True, False])
def test_the_note_of_a_run_says_whether_its_model_was_shown_calls(tmp_path: Path, calls: bool) -> None:
    write_model(tmp_path / "base")
    (tmp_path / "base" / "tunebench.json").write_text(json.dumps({"calls": calls}))
    fields = load_answerer(spec_of(tmp_path, adapters=[])).capabilities.fields
    assert ("tools" in fields) == calls


def test_rows_that_call_functions_are_known(tmp_path: Path) -> None:
    home = Home(tmp_path)
    plain: Any = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    write_rows(home, "plain", [plain] * 3)
    write_rows(home, "calling", [plain, [{"role": "tools", "content": "[]"}, *plain]])
    assert (has_function_calls(home, "plain"), has_function_calls(home, "calling")) == (False, True)
