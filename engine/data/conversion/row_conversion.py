"""Convert a row of a file to the stored form, or reject it with a reason.

Texts are stored unchanged; only labels are stripped of surrounding white space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from engine.data.conversion.conversation_turns import (
    Turns,
    add_tools,
    check_turns,
    format_value,
    has_function_calls,
    parse_list,
    parse_spoken_turns,
    read_turns,
)
from engine.data.conversion.judged_answers import REJECTED, decide_side, read_mark
from engine.data.conversion.multiple_choice import find_answer_index, read_choices
from engine.data.readers.file_rows import FileRow, RowSkipped
from store.core.errors import ConfigError
from store.data.formats import FORMATS, MARKED_BAD, AnswerBy, append_choices, has_choices, list_columns

PAIR_TURN_ROLES = ("user", "assistant")
SYSTEM_PAIR_TURN_ROLES = ("system", "user", "assistant")


class CanonicalRow(NamedTuple):
    """A row in its stored form.

    roles, contents: of its turns (roles is None for plain text). text: used for search and equality. choices,
    answer_index: of multiple choice, the choices and the index of the right one, from 0. part: the part of
    the split given by the file.
    """

    roles: tuple[str, ...] | None
    contents: tuple[str, ...]
    text: str
    label: str | None
    rejected: str | None
    choices: tuple[str, ...] | None = None
    answer_index: int | None = None
    part: str | None = None


RowConverter = Callable[[FileRow], CanonicalRow]


def make_converter(
    format: str,
    columns: dict[str, str],
    *,
    instruction: str = "",
    label_column: str | None = None,
    answers: AnswerBy | None = None,
    values: Mapping[str, str] | None = None,
) -> RowConverter:
    """Return the function that converts a row to a CanonicalRow; it raises RowSkipped with the reason.

    columns: role -> column. instruction: for text_label, prepended to every text without its own instruction.
    label_column: for formats without labels, the column to store as label. answers: how the answers of
    multiple choice name their choices. values: meanings of the values that judge an answer
    (`store.data.formats`). Raises ConfigError if a required role has no column.
    """
    _check_roles(format, columns)
    columns = {role: column for role, column in columns.items() if column}
    if format == "text":
        text = columns["text"]
        return lambda row: CanonicalRow(None, (), _read_required(row, text), None, None)
    if format in ("messages", "sharegpt"):
        return _make_conversation_converter(
            columns[FORMATS[format].required[0]], columns.get("system"), columns.get("tools")
        )
    if format == "preference":
        return _make_preference_converter(columns)
    if format == "text_label":
        return _make_text_label_converter(columns, instruction)
    if format == "comparison":
        return _make_comparison_converter(columns, values or {})
    if format == "marked":
        return _make_marked_converter(columns, values or {})
    if format == "marked_pairs":
        return _make_marked_pairs_converter(columns)
    if format == "multiple_choice":
        return _make_choice_converter(columns, answers or "text")
    question, answer = FORMATS[format].required
    around = columns.get("input"), columns.get("context"), columns.get("system")
    return _make_pair_converter(columns[question], columns[answer], *around, label_column)


def _check_roles(format: str, columns: dict[str, str]) -> None:
    for role in FORMATS[format].required:
        if not columns.get(role):
            raise ConfigError(
                f"{FORMATS[format].title} needs a column for {role}.",
                fix=f"Map a column to {role}, or choose another format.",
                field=f"columns.{role}",
            )


def _read_required(row: FileRow, column: str) -> str:
    value = row.get(column)
    if type(value) is not str:
        value = format_value(value, column)
    if not value or value.isspace():
        raise RowSkipped(f"{column} is empty")
    return value


def _read_optional(row: FileRow, column: str) -> str:
    """Return the text of an optional column, or an empty text if it is missing."""
    value = row.get(column)
    if type(value) is not str:
        if value is None or value != value:  # NaN is a missing value in tables
            return ""
        value = format_value(value, column)
    return "" if value.isspace() else value


def _read_label(value: Any, column: str) -> str:
    if type(value) is float and value.is_integer():  # class 1 reads as 1.0 in a column with gaps
        value = int(value)
    text = format_value(value, column).strip()
    if not text:
        raise RowSkipped(f"{column} is empty")
    return text


def _build_question_row(
    asked: str, answer: str, before: str = "", system: str = "", label: str | None = None
) -> CanonicalRow:
    """Build a row of one question, preceded by `before` (a context) if any, and its answer.

    `system`: content of the system turn.
    """
    if before:
        asked = f"{before}\n\n{asked}"
    if system:
        return CanonicalRow(
            SYSTEM_PAIR_TURN_ROLES, (system, asked, answer), f"{system}\n\n{asked}\n\n{answer}", label, None
        )
    return CanonicalRow(PAIR_TURN_ROLES, (asked, answer), f"{asked}\n\n{answer}", label, None)


def _make_pair_converter(
    question: str, answer: str, after: str | None, before: str | None, system: str | None, label: str | None
) -> RowConverter:
    def convert(row: FileRow) -> CanonicalRow:
        asked, reply = _read_required(row, question), _read_required(row, answer)
        if after and (more := _read_optional(row, after)):
            asked = f"{asked}\n\n{more}"
        kept = _read_label(row.get(label), label) if label else None
        context = _read_optional(row, before) if before else ""
        return _build_question_row(asked, reply, context, _read_optional(row, system) if system else "", kept)

    return convert


def _make_text_label_converter(columns: dict[str, str], instruction: str) -> RowConverter:
    text_column, label_column = columns["text"], columns["label"]
    own = columns.get("instruction")
    general = instruction.strip()

    def convert(row: FileRow) -> CanonicalRow:
        text = _read_required(row, text_column)
        label = _read_label(row.get(label_column), label_column)
        asked = (own and _read_optional(row, own)) or general
        if asked:
            text = f"{asked}\n\n{text}"
        return CanonicalRow(PAIR_TURN_ROLES, (text, label), f"{text}\n\n{label}", label, None)

    return convert


def _make_choice_converter(columns: dict[str, str], by: AnswerBy) -> RowConverter:
    """Make the converter for multiple choice, with choices listed as defined in `store.data.formats`."""
    question, answer, before, system = (
        columns.get(role) for role in ("question", "answer", "context", "system")
    )
    assert question
    assert answer
    where = list_columns(columns, "choices")

    def convert(row: FileRow) -> CanonicalRow:
        choices, names = read_choices(row, where)
        place = find_answer_index(row.get(answer), choices, by, names)
        asked = _read_required(row, question)
        if not has_choices(asked, choices):  # the prompt of an export already lists them
            asked = append_choices(asked, choices)
        context = _read_optional(row, before) if before else ""
        canonical = _build_question_row(
            asked, choices[place], context, _read_optional(row, system) if system else ""
        )
        return canonical._replace(choices=choices, answer_index=place)

    return convert


def _make_conversation_converter(column: str, system: str | None, tools: str | None) -> RowConverter:
    def convert(row: FileRow) -> CanonicalRow:
        turns = read_turns(row.get(column), column)
        if system and turns and turns[0][0] != "system" and (system_text := _read_optional(row, system)):
            turns.insert(0, ("system", system_text))
        calls = has_function_calls(row.get(column))
        turns = add_tools(turns, row.get(tools) if tools else None, calls=calls)
        check_turns(turns)
        return _build_turns_row(turns, None)

    return convert


def _make_preference_converter(columns: dict[str, str]) -> RowConverter:
    """Make the converter for preferences.

    Answers may be texts (with a prompt, or as a Human/Assistant dialogue) or whole conversations.
    """
    prompt, system, tools = (columns.get(role) for role in ("prompt", "system", "tools"))

    def convert(row: FileRow) -> CanonicalRow:
        asked = _read_prompt(row, prompt)
        chosen, rejected = (_read_answer(row, columns[role], asked) for role in ("chosen", "rejected"))
        if chosen[:-1] != rejected[:-1]:
            raise RowSkipped("chosen and rejected answer different questions")
        if system and chosen and chosen[0][0] != "system" and (system_text := _read_optional(row, system)):
            chosen.insert(0, ("system", system_text))
        calls = any(has_function_calls(row.get(name)) for name in columns.values())
        chosen = add_tools(chosen, row.get(tools) if tools else None, calls=calls)
        check_turns(chosen)
        if not rejected or rejected[-1][0] != "assistant":
            raise RowSkipped("the rejected answer is not by the assistant")
        return _build_turns_row(chosen, rejected[-1][1])

    return convert


def _make_comparison_converter(columns: dict[str, str], values: Mapping[str, str]) -> RowConverter:
    """Make the converter for comparisons: the better answer is chosen, the other one rejected."""
    prefer = {
        side: _make_preference_converter(
            {
                **{role: columns[role] for role in ("prompt", "system") if role in columns},
                "chosen": columns[side],
                "rejected": columns["second" if side == "first" else "first"],
            }
        )
        for side in ("first", "second")
    }
    better, prompt, more = list_columns(columns, "better"), columns.get("prompt"), columns.get("input")

    def convert(row: FileRow) -> CanonicalRow:
        side = decide_side(row, better, values)
        if prompt and more and (rest := _read_optional(row, more)):
            row = {**row, prompt: f"{_read_required(row, prompt)}\n\n{rest}"}
        return prefer[side](row)

    return convert


def _make_marked_converter(columns: dict[str, str], values: Mapping[str, str]) -> RowConverter:
    """Make the converter that keeps good answers only. Prompt and answer may be texts or turns."""
    prompt, completion, label, system = (
        columns.get(role) for role in ("prompt", "completion", "label", "system")
    )
    assert completion
    assert label

    def convert(row: FileRow) -> CanonicalRow:
        if read_mark(row, label, values) == "bad":
            raise RowSkipped(MARKED_BAD)
        turns = _read_answer(row, completion, _read_prompt(row, prompt))
        if system and turns[0][0] != "system" and (system_text := _read_optional(row, system)):
            turns.insert(0, ("system", system_text))
        check_turns(turns)
        return _build_turns_row(turns, None)

    return convert


def _make_marked_pairs_converter(columns: dict[str, str]) -> RowConverter:
    """Make the converter for the rows built by `engine.data.conversion.judged_answers`."""
    roles: dict[str, str] = {role: columns[role] for role in ("prompt", "system") if role in columns}
    return _make_preference_converter({**roles, "chosen": columns["completion"], "rejected": REJECTED})


def _read_prompt(row: FileRow, prompt: str | None) -> Turns:
    if not prompt:
        return []
    value = parse_list(row.get(prompt))
    if type(value) is list:
        return read_turns(value, prompt)
    return [("user", _read_required(row, prompt))]


def _read_answer(row: FileRow, column: str, asked: Turns) -> Turns:
    value = parse_list(row.get(column))
    if type(value) is list:
        turns = read_turns(value, column)
        return turns if len(turns) > 1 else [*asked, *turns]
    text = _read_required(row, column)
    if asked:
        return [*asked, ("assistant", text)]
    turns = parse_spoken_turns(text)
    if not turns:
        raise RowSkipped("there is no prompt, and the answers are not conversations")
    if any(not content for _, content in turns):
        raise RowSkipped("a turn is empty")
    return turns


def _build_turns_row(turns: Turns, rejected: str | None) -> CanonicalRow:
    roles, contents = zip(*turns, strict=True)
    return CanonicalRow(roles, contents, "\n\n".join(contents), None, rejected)
