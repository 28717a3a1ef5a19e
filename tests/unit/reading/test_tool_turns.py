"""Calls of functions from file to tokens: nothing is lost on the way in, the template gets what it knows of,
and the call itself is trained."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.data.conversion.row_conversion import make_converter
from engine.data.export_formats import _build_openai
from engine.data.readers.file_rows import RowSkipped
from engine.models.tokenization.rendering import render, render_conversation, render_prompt
from engine.models.tokenization.tokenized_rows import check_masks
from engine.models.tokenization.tool_turns import prepare_for_template, supports_tools
from tests.tiny import make_tokenizer

KNOWING = (
    "{% if tools %}{{ '<|im_start|>system\\n' + (tools | tojson) + '<|im_end|>\\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + (m.content or '') }}"
    "{% for c in m.tool_calls or [] %}{{ '<call>' + (c.function | tojson) + '</call>' }}{% endfor %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SCHEMAS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
ROW: dict[str, Any] = {
    "tools": SCHEMAS,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Rome and Oslo?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": place,
                    "type": "function",
                    "function": {"name": "weather", "arguments": json.dumps({"place": place})},
                }
                for place in ("Rome", "Oslo")
            ],
        },
        {"role": "tool", "tool_call_id": "Oslo", "content": "snow"},
        {"role": "tool", "tool_call_id": "Rome", "content": "sun"},
        {"role": "assistant", "content": "Sun and snow."},
    ],
}
SHAREGPT: dict[str, Any] = {
    "tools": json.dumps(SCHEMAS),
    "system": "Be brief.",
    "conversations": [
        {"from": "human", "value": "Rome?"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"place": "Rome"}}'},
        {"from": "observation", "value": "sun"},
        {"from": "gpt", "value": "Sun."},
    ],
}


def read(row: dict[str, Any]) -> list[dict[str, str]]:
    """The turns as they are stored."""
    main = "messages" if "messages" in row else "conversations"
    columns = {name: name for name in (main, "tools", "system") if name in row}
    made = make_converter("messages" if main == "messages" else "sharegpt", columns)(row)
    assert made.roles is not None
    return [{"role": role, "content": text} for role, text in zip(made.roles, made.contents, strict=True)]


def trained(template: str, messages: list[dict[str, str]]) -> list[str]:
    """The runs of trained text."""
    tokenizer = make_tokenizer(template)
    rows = render(tokenizer, [0], [messages])
    assert rows.reason_counts == {}
    ids, flags = rows.row(0)
    runs, last = [], -2
    for place in flags.nonzero()[0].tolist():
        if place != last + 1:
            runs.append([])
        runs[-1].append(ids[place])
        last = place
    return [tokenizer.decode(run) for run in runs]


def test_a_conversation_with_calls_is_stored_in_order_and_goes_out_as_it_came() -> None:
    stored = read(ROW)
    assert [turn["role"] for turn in stored] == [
        *("tools", "system", "user", "assistant", "tool", "tool", "assistant"),
    ]
    assert json.loads(stored[0]["content"]) == SCHEMAS
    assert [turn["content"] for turn in stored[4:6]] == ["sun", "snow"]  # in the order of the calls
    out = _build_openai(make_converter("messages", {"messages": "messages", "tools": "tools"})(ROW))
    assert out["tools"] == SCHEMAS
    assert out["messages"][2] == ROW["messages"][2]
    assert [turn["tool_call_id"] for turn in out["messages"][3:5]] == ["Rome", "Oslo"]
    assert read(out) == stored  # what was written reads back


def test_a_template_that_knows_tools_is_given_them_and_the_call_is_trained() -> None:
    tokenizer = make_tokenizer(KNOWING)
    assert supports_tools(tokenizer)
    text = render_conversation(tokenizer, read(ROW))
    assert text.startswith('<|im_start|>system\n[{"type": "function", "function": {"name": "weather"')
    assert trained(KNOWING, read(ROW)) == [
        '<call>{"name": "weather", "arguments": {"place": "Rome"}}</call>'
        '<call>{"name": "weather", "arguments": {"place": "Oslo"}}</call><|im_end|>',
        "Sun and snow.<|im_end|>",
    ]


def test_for_any_other_template_tools_are_written_out() -> None:
    tokenizer = make_tokenizer()
    assert not supports_tools(tokenizer)
    turns, tools = prepare_for_template(read(ROW), native=False)
    assert tools is None
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user", "assistant"]
    assert turns[0]["content"].startswith("Be brief.\n\nFunctions that can be called")
    assert json.dumps(SCHEMAS[0]) in turns[0]["content"]
    assert turns[3]["content"] == "Result of weather:\nsun\n\nResult of weather:\nsnow"
    call = '{"tool_calls": [{"name": "weather", "arguments": {"place": "Rome"}}'
    runs = trained(str(tokenizer.chat_template), read(ROW))
    assert runs[0].startswith(call)
    assert runs[1] == "Sun and snow.<|im_end|>"


@pytest.mark.parametrize("template", [KNOWING, None])
def test_the_gate_finds_nothing_wrong(template: str | None) -> None:
    tokenizer = make_tokenizer(template) if template else make_tokenizer()
    stored = [read(ROW), read(SHAREGPT)]
    checks = check_masks(tokenizer, stored, render(tokenizer, [0, 1], stored))
    counts = (checks.counted, checks.unlocated, checks.leaking, checks.missed, checks.unclosed)
    assert counts == (2, 0, 0, 0, 0)


def test_sharegpt_turns_and_old_function_calls_are_read() -> None:
    stored = read(SHAREGPT)
    assert [turn["role"] for turn in stored] == ["tools", "system", "user", "assistant", "tool", "assistant"]
    assert json.loads(stored[3]["content"]) == {
        "tool_calls": [{"name": "weather", "arguments": {"place": "Rome"}}]
    }
    old = {
        "messages": [
            {"role": "user", "content": "Rome?"},
            {
                "role": "assistant",
                "content": "I look.",
                "function_call": {"name": "weather", "arguments": '{"place": "Rome"}'},
            },
        ]
    }
    stored = read(old)
    assert stored[0] == {"role": "tools", "content": "[]"}  # nobody said what can be called
    assert trained(KNOWING, stored) == [
        'I look.<call>{"name": "weather", "arguments": {"place": "Rome"}}</call><|im_end|>'
    ]
    prompt = render_prompt(make_tokenizer(KNOWING), stored)
    assert prompt is not None
    assert prompt[0] == "<|im_start|>user\nRome?<|im_end|>\n<|im_start|>assistant\n"


def test_conversations_without_calls_stay_as_they_were() -> None:
    literal = '{"tool_calls": [{"name": "weather", "arguments": {}}]}'
    turns = [{"role": "user", "content": "As JSON, please"}, {"role": "assistant", "content": literal}]
    assert read({"messages": turns}) == turns  # an answer that looks like a call is an answer
    assert prepare_for_template(turns, native=True) == (turns, None)
    assert trained(KNOWING, turns) == [literal + "<|im_end|>"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tools": "no JSON"}, "the tools are not JSON"),
        ({"tools": "[1]"}, "the tools are not a list of objects"),
        (
            {"messages": [ROW["messages"][1], {"role": "assistant", "tool_calls": [{}]}]},
            "a call names no function",
        ),
        (
            {"messages": [*ROW["messages"][1:3], {"role": "tool", "tool_call_id": "x", "content": "y"}]},
            "has no preceding call",
        ),
        ({"messages": ROW["messages"][:4]}, "the last turn is not by the assistant"),
    ],
)
def test_what_is_no_call_is_a_reason_to_leave_the_row_out(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowSkipped, match=reason):
        read(ROW | change)


def test_several_turns_and_a_system_turn_are_trained_as_answers_alone() -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "2"},
    ]
    assert read({"messages": turns}) == turns
    assert trained(str(make_tokenizer().chat_template), turns) == ["1<|im_end|>", "2<|im_end|>"]
