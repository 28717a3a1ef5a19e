"""Which format a file's rows are in, and what becomes of one row."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from engine.data.conversion.format_detection import FormatOptions, choose_format, recognise_format
from engine.data.conversion.row_conversion import CanonicalRow, make_converter
from engine.data.readers.file_rows import RowSkipped, list_column_names
from store.core.errors import ConfigError, DataError
from store.data.formats import FORMATS

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
SHARED = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]


@pytest.mark.parametrize(
    ("row", "format", "mapping"),
    [
        ({"messages": CHAT}, "messages", {"messages": "messages"}),
        ({"id": 1, "Conversation": CHAT}, "messages", {"messages": "Conversation"}),
        ({"messages": json.dumps(CHAT)}, "messages", {"messages": "messages"}),
        (
            {"conversations": SHARED, "system": "Be kind"},
            "sharegpt",
            {"conversations": "conversations", "system": "system"},
        ),
        (
            {"prompt": "p", "chosen": "a", "rejected": "b"},
            "preference",
            {"chosen": "chosen", "rejected": "rejected", "prompt": "prompt"},
        ),
        ({"chosen": CHAT, "rejected": CHAT}, "preference", {"chosen": "chosen", "rejected": "rejected"}),
        (
            {"instruction": "i", "context": "c", "response": "r", "category": "x"},
            "instruction",
            {"instruction": "instruction", "output": "response", "input": "context"},
        ),
        ({"question": "q", "answer": "a"}, "question_answer", {"question": "question", "answer": "answer"}),
        ({"Query": "q", "Response": "a"}, "question_answer", {"question": "Query", "answer": "Response"}),
        (
            {"prompt": "p", "completion": "c"},
            "prompt_completion",
            {"prompt": "prompt", "completion": "completion"},
        ),
        ({"mr": "p", "ref": "c"}, "prompt_completion", {"prompt": "mr", "completion": "ref"}),
        (
            {"text": "A long document", "summary": "Short"},
            "prompt_completion",
            {"prompt": "text", "completion": "summary"},
        ),
        ({"text": "t", "category": "c"}, "text_label", {"text": "text", "label": "category"}),
        ({"sentence": "t", "label": 1}, "text_label", {"text": "sentence", "label": "label"}),
        ({"utterance": "t", "intent": "c"}, "text_label", {"text": "utterance", "label": "intent"}),
        ({"text": "t", "number": 3}, "text", {"text": "text"}),
    ],
)
def test_recognition_by_names(row: dict[str, Any], format: str, mapping: dict[str, str]) -> None:
    recognised = recognise_format(list(row), [row])
    assert (recognised.format, recognised.mappings[format]) == (format, mapping)
    assert not recognised.guessed


def test_a_long_label_is_no_label() -> None:
    row = {"text": "Good day", "target": "Einen schönen guten Tag, " * 5}
    assert recognise_format(list(row), [row]).format == "prompt_completion"


def test_nested_answers_do_not_make_question_and_answer() -> None:
    row = {"question": "q", "answer": {"text": ["a"]}}
    assert recognise_format(list(row), [row]).format != "question_answer"


def test_guesses_from_values_are_marked() -> None:
    rows = [{"column_1": "ham" if n % 2 else "spam", "column_2": f"Message number {n}"} for n in range(20)]
    recognised = recognise_format(["column_1", "column_2"], rows)
    assert recognised.format == "text_label"
    assert recognised.mappings["text_label"] == {"text": "column_2", "label": "column_1"}
    assert recognised.guessed
    numbered = {"input": "i", "output_1": "a", "output_2": "b"}
    recognised = recognise_format(list(numbered), [numbered])
    assert recognised.format == "prompt_completion"
    assert recognised.mappings["prompt_completion"] == {"prompt": "input", "completion": "output_1"}


def test_alternatives_come_with_their_mappings() -> None:
    row = {"question": "q", "answer": "a", "category": "c"}
    recognised = recognise_format(list(row), [row])
    assert list(recognised.mappings) == ["question_answer", "text_label", "prompt_completion", "text"]
    assert recognised.mappings["text_label"] == {"text": "question", "label": "category"}


def test_columns_of_jsonl_are_those_of_all_first_rows() -> None:
    assert list_column_names([], [{"a": 1}, {"b": 2, "a": 3}]) == ["a", "b"]


def test_a_mapping_that_is_complete_is_taken_as_given() -> None:
    row = {"instruction": "i", "input": "x", "output": "o"}
    given = {"instruction": "instruction", "output": "output"}
    assert choose_format(list(row), [row], FormatOptions("instruction", given))[1] == given
    filled = choose_format(list(row), [row], FormatOptions("instruction", {"output": "output"}))[1]
    assert filled == {**given, "input": "input"}
    assert (
        choose_format(list(row), [row], FormatOptions(None, {"question": "input", "answer": "output"}))[0]
        == "question_answer"
    )


def test_a_mapping_that_can_not_be_names_its_field() -> None:
    row = {"text": "t", "label": "c"}
    with pytest.raises(ConfigError, match="no column 'labels' for label") as caught:
        choose_format(list(row), [row], FormatOptions("text_label", {"text": "text", "label": "labels"}))
    assert caught.value.field == "columns.label"
    assert "text, label" in caught.value.fix
    with pytest.raises(ConfigError, match="both mapped to the column 'text'"):
        choose_format(list(row), [row], FormatOptions("text_label", {"text": "text", "label": "text"}))
    with pytest.raises(ConfigError, match="needs a column for chosen"):
        choose_format(list(row), [row], FormatOptions("preference", {}))
    with pytest.raises(DataError, match="No column holds text"):
        choose_format(["n"], [{"n": 1}], FormatOptions(None, {}))


def turns(made: CanonicalRow) -> list[tuple[str, str]]:
    return list(zip(made.roles or (), made.contents, strict=True))


def columns(format: str) -> dict[str, str]:
    return {role: role for role in FORMATS[format].required + FORMATS[format].optional}


def canonical(format: str, row: dict[str, Any], **options: Any) -> CanonicalRow:
    return make_converter(format, columns(format), **options)(row)


def test_instruction_and_input_are_parted_by_an_empty_line() -> None:
    made = canonical(
        "instruction", {"instruction": "Translate.", "input": "Hallo", "output": "Hello", "system": "S"}
    )
    assert turns(made) == [("system", "S"), ("user", "Translate.\n\nHallo"), ("assistant", "Hello")]
    assert made.text == "S\n\nTranslate.\n\nHallo\n\nHello"
    made = canonical("instruction", {"instruction": "Say hello.", "input": math.nan, "output": "Hello"})
    assert turns(made) == [("user", "Say hello."), ("assistant", "Hello")]


def test_a_context_comes_before_the_question() -> None:
    made = canonical("question_answer", {"question": "Who?", "answer": "Ada", "context": "A story."})
    assert turns(made)[0] == ("user", "A story.\n\nWho?")


def test_text_and_label() -> None:
    made = canonical("text_label", {"text": "Where is my card?", "label": " arrival "})
    assert turns(made) == [("user", "Where is my card?"), ("assistant", "arrival")]
    assert made.label == "arrival"
    made = canonical("text_label", {"text": "Where?", "label": 3.0}, instruction="Name the intent.")
    assert turns(made) == [("user", "Name the intent.\n\nWhere?"), ("assistant", "3")]
    made = canonical(
        "text_label", {"text": "Where?", "label": True, "instruction": "Own."}, instruction="General."
    )
    assert turns(made) == [("user", "Own.\n\nWhere?"), ("assistant", "true")]


def test_numbers_become_their_text() -> None:
    assert turns(canonical("prompt_completion", {"prompt": 12, "completion": 1.5})) == [
        ("user", "12"),
        ("assistant", "1.5"),
    ]


def test_conversations() -> None:
    parts = [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}]
    made = canonical(
        "messages",
        {"messages": [{"role": "Developer", "content": "D"}, {"role": "user", "content": parts}, CHAT[1]]},
    )
    assert turns(made) == [("system", "D"), ("user", "One\nTwo"), ("assistant", "Hello")]
    made = canonical("sharegpt", {"conversations": SHARED, "system": "S"})
    assert turns(made) == [("system", "S"), ("user", "Hi"), ("assistant", "Hello")]
    printed = str(SHARED)  # as pandas writes a list into a CSV
    assert turns(canonical("sharegpt", {"conversations": printed})) == [
        ("user", "Hi"),
        ("assistant", "Hello"),
    ]


def test_preferences_in_their_three_shapes() -> None:
    expected = [("user", "Hi"), ("assistant", "Hello")]
    made = canonical("preference", {"prompt": "Hi", "chosen": "Hello", "rejected": "No"})
    assert (turns(made), made.rejected) == (expected, "No")
    other = [CHAT[0], {"role": "assistant", "content": "No"}]
    made = make_converter("preference", {"chosen": "chosen", "rejected": "rejected"})(
        {"chosen": CHAT, "rejected": other}
    )
    assert (turns(made), made.rejected) == (expected, "No")
    spoken = {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: No"}
    made = make_converter("preference", {"chosen": "chosen", "rejected": "rejected"})(spoken)
    assert (turns(made), made.rejected) == (expected, "No")


def assistant_turn(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("format", "row", "reason"),
    [
        ("question_answer", {"question": "q"}, "answer is missing"),
        ("question_answer", {"question": "q", "answer": " \n"}, "answer is empty"),
        ("question_answer", {"question": "q", "answer": math.nan}, "answer is missing"),
        ("question_answer", {"question": ["q"], "answer": "a"}, "question is a list, not a text"),
        ("text_label", {"text": "t", "label": ""}, "label is empty"),
        ("text_label", {"text": "t", "label": None}, "label is missing"),
        ("text", {"text": {"a": 1}}, "text is an object, not a text"),
        ("messages", {"messages": None}, "messages is missing"),
        ("messages", {"messages": []}, "messages is empty"),
        ("messages", {"messages": "hello"}, "messages is not a list of turns"),
        ("messages", {"messages": ["hello"]}, "a turn is not an object"),
        ("messages", {"messages": [{"content": "x"}]}, "a turn has no speaker"),
        ("messages", {"messages": [user("x")]}, "no turn by the assistant"),
        ("messages", {"messages": [CHAT[1]]}, "no turn by the user"),
        ("messages", {"messages": [*CHAT, user("y")]}, "the last turn is not by the assistant"),
        ("messages", {"messages": [user(""), CHAT[1]]}, "a question is empty"),
        ("messages", {"messages": [user([{"type": "image"}]), CHAT[1]]}, "has content that is not text"),
        ("messages", {"messages": [user("x"), assistant_turn(None)]}, "a turn of assistant has no content"),
        ("messages", {"messages": [user("x"), assistant_turn(" ")]}, "an answer is empty"),
        ("messages", {"messages": [{"role": "system", "content": ""}]}, "no turn by the assistant"),
        ("sharegpt", {"conversations": [{"from": "narrator", "value": "x"}]}, "a turn is by 'narrator'"),
        ("preference", {"chosen": "a", "rejected": "b", "prompt": ""}, "prompt is empty"),
        ("preference", {"chosen": CHAT, "rejected": [user("Ho"), CHAT[1]]}, "different questions"),
    ],
)  # fmt: skip
def test_rows_that_are_skipped_say_why(format: str, row: dict[str, Any], reason: str) -> None:
    convert = make_converter(format, {role: role for role in {*FORMATS[format].required, *row}})
    with pytest.raises(RowSkipped, match=reason):
        convert(row)
