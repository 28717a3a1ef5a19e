"""One row of a file to the stored form, or the reason why not. Texts are kept as they stand in the file;
only labels are stripped of white space around them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from engine.data.conversion.conversation_turns import (
    RowSkipped,
    Turns,
    calls_functions,
    check_turns,
    list_in_text,
    plain,
    read_turns,
    spoken_turns,
    with_tools,
)
from engine.data.conversion.judged_answers import REJECTED, mark_of, side_of
from engine.data.conversion.multiple_choice import place_of, read_choices
from engine.data.readers.file_rows import FileRow
from store.core.errors import ConfigError
from store.data.formats import FORMATS, MARKED_BAD, AnswerBy, columns_of, shows, with_choices

SIDES = ("user", "assistant")
WITH_SYSTEM = ("system", "user", "assistant")


class Canonical(NamedTuple):
    """A row as it is stored: roles and contents of its turns (None for plain text), the text that is
    searched and by which rows are equal, the label, the rejected answer; of multiple choice the choices and
    the place of the right one among them, from 0; and the part that its file puts it in."""

    roles: tuple[str, ...] | None
    contents: tuple[str, ...]
    text: str
    label: str | None
    rejected: str | None
    choices: tuple[str, ...] | None = None
    answer_index: int | None = None
    part: str | None = None


Convert = Callable[[FileRow], Canonical]


def converter(
    format: str,
    columns: dict[str, str],
    *,
    instruction: str = "",
    label_column: str | None = None,
    answers: AnswerBy | None = None,
    values: Mapping[str, str] | None = None,
) -> Convert:
    """The function that turns a row into a Canonical; it raises RowSkipped with the reason.

    columns: role -> column. instruction: for text_label, put before every text that brings none itself.
    label_column: of a format without labels, the column to keep as one. answers: how those of multiple choice
    name their choices. values: what the values that judge an answer mean (`store.data.formats`).
    Raises ConfigError where a required role has no column.
    """
    _check_roles(format, columns)
    columns = {role: column for role, column in columns.items() if column}
    if format == "text":
        return _plain_text(columns["text"])
    if format in ("messages", "sharegpt"):
        return _conversation(
            columns[FORMATS[format].required[0]], columns.get("system"), columns.get("tools")
        )
    if format == "preference":
        return _preference(columns)
    if format == "text_label":
        return _text_label(columns, instruction)
    if format == "comparison":
        return _comparison(columns, values or {})
    if format == "marked":
        return _marked(columns, values or {})
    if format == "marked_pairs":
        return _marked_pairs(columns)
    if format == "multiple_choice":
        return _multiple_choice(columns, answers or "text")
    question, answer = FORMATS[format].required
    around = columns.get("input"), columns.get("context"), columns.get("system")
    return _pair(columns[question], columns[answer], *around, label_column)


def _check_roles(format: str, columns: dict[str, str]) -> None:
    for role in FORMATS[format].required:
        if not columns.get(role):
            raise ConfigError(
                f"{FORMATS[format].title} needs a column for {role}.",
                fix=f"Map a column to {role}, or choose another format.",
                field=f"columns.{role}",
            )


def _required(row: FileRow, column: str) -> str:
    value = row.get(column)
    if type(value) is not str:
        value = plain(value, column)
    if not value or value.isspace():
        raise RowSkipped(f"{column} is empty")
    return value


def _optional(row: FileRow, column: str) -> str:
    """The text of a column that may be missing; empty where it is."""
    value = row.get(column)
    if type(value) is not str:
        if value is None or value != value:  # NaN is how tables say that nothing is there
            return ""
        value = plain(value, column)
    return "" if value.isspace() else value


def _label(value: Any, column: str) -> str:
    if type(value) is float and value.is_integer():  # 1.0 is the class 1 of a column with gaps
        value = int(value)
    text = plain(value, column).strip()
    if not text:
        raise RowSkipped(f"{column} is empty")
    return text


def _question_with_answer(
    asked: str, answer: str, before: str = "", system: str = "", label: str | None = None
) -> Canonical:
    """One question, after a context where there is one, and its answer; `system`: what its turn says."""
    if before:
        asked = f"{before}\n\n{asked}"
    if system:
        return Canonical(
            WITH_SYSTEM, (system, asked, answer), f"{system}\n\n{asked}\n\n{answer}", label, None
        )
    return Canonical(SIDES, (asked, answer), f"{asked}\n\n{answer}", label, None)


def _pair(
    question: str, answer: str, after: str | None, before: str | None, system: str | None, label: str | None
) -> Convert:
    def convert(row: FileRow) -> Canonical:
        asked, reply = _required(row, question), _required(row, answer)
        if after and (more := _optional(row, after)):
            asked = f"{asked}\n\n{more}"
        kept = _label(row.get(label), label) if label else None
        context = _optional(row, before) if before else ""
        return _question_with_answer(asked, reply, context, _optional(row, system) if system else "", kept)

    return convert


def _text_label(columns: dict[str, str], instruction: str) -> Convert:
    text_column, label_column = columns["text"], columns["label"]
    own = columns.get("instruction")
    general = instruction.strip()

    def convert(row: FileRow) -> Canonical:
        text = _required(row, text_column)
        label = _label(row.get(label_column), label_column)
        asked = (own and _optional(row, own)) or general
        if asked:
            text = f"{asked}\n\n{text}"
        return Canonical(SIDES, (text, label), f"{text}\n\n{label}", label, None)

    return convert


def _multiple_choice(columns: dict[str, str], by: AnswerBy) -> Convert:
    """The rule of `store.data.formats`."""
    question, answer, before, system = (
        columns.get(role) for role in ("question", "answer", "context", "system")
    )
    assert question
    assert answer
    where = columns_of(columns, "choices")

    def convert(row: FileRow) -> Canonical:
        choices, names = read_choices(row, where)
        place = place_of(row.get(answer), choices, by, names)
        asked = _required(row, question)
        if not shows(asked, choices):  # an export's prompt lists them already
            asked = with_choices(asked, choices)
        context = _optional(row, before) if before else ""
        canonical = _question_with_answer(
            asked, choices[place], context, _optional(row, system) if system else ""
        )
        return canonical._replace(choices=choices, answer_index=place)

    return convert


def _plain_text(column: str) -> Convert:
    def convert(row: FileRow) -> Canonical:
        return Canonical(None, (), _required(row, column), None, None)

    return convert


def _conversation(column: str, system: str | None, tools: str | None) -> Convert:
    def convert(row: FileRow) -> Canonical:
        turns = read_turns(row.get(column), column)
        if system and turns and turns[0][0] != "system" and (system_text := _optional(row, system)):
            turns.insert(0, ("system", system_text))
        calls = calls_functions(row.get(column))
        turns = with_tools(turns, row.get(tools) if tools else None, calls=calls)
        check_turns(turns)
        return _from_turns(turns, None)

    return convert


def _preference(columns: dict[str, str]) -> Convert:
    """Answers may be texts (with a prompt, or spoken as Human and Assistant) or whole conversations."""
    prompt, system, tools = (columns.get(role) for role in ("prompt", "system", "tools"))

    def convert(row: FileRow) -> Canonical:
        asked = _asked(row, prompt)
        chosen, rejected = (_answer(row, columns[role], asked) for role in ("chosen", "rejected"))
        if chosen[:-1] != rejected[:-1]:
            raise RowSkipped("chosen and rejected answer different questions")
        if system and chosen and chosen[0][0] != "system" and (system_text := _optional(row, system)):
            chosen.insert(0, ("system", system_text))
        calls = any(calls_functions(row.get(name)) for name in columns.values())
        chosen = with_tools(chosen, row.get(tools) if tools else None, calls=calls)
        check_turns(chosen)
        if not rejected or rejected[-1][0] != "assistant":
            raise RowSkipped("the rejected answer is not by the assistant")
        return _from_turns(chosen, rejected[-1][1])

    return convert


def _comparison(columns: dict[str, str], values: Mapping[str, str]) -> Convert:
    """The answer that is better preferred to the other."""
    prefer = {
        side: _preference(
            {
                **{role: columns[role] for role in ("prompt", "system") if role in columns},
                "chosen": columns[side],
                "rejected": columns["second" if side == "first" else "first"],
            }
        )
        for side in ("first", "second")
    }
    better, prompt, more = columns_of(columns, "better"), columns.get("prompt"), columns.get("input")

    def convert(row: FileRow) -> Canonical:
        side = side_of(row, better, values)
        if prompt and more and (rest := _optional(row, more)):
            row = {**row, prompt: f"{_required(row, prompt)}\n\n{rest}"}
        return prefer[side](row)

    return convert


def _marked(columns: dict[str, str], values: Mapping[str, str]) -> Convert:
    """Good answers alone. Prompt and answer may be texts or turns."""
    prompt, completion, label, system = (
        columns.get(role) for role in ("prompt", "completion", "label", "system")
    )
    assert completion
    assert label

    def convert(row: FileRow) -> Canonical:
        if mark_of(row, label, values) == "bad":
            raise RowSkipped(MARKED_BAD)
        turns = _answer(row, completion, _asked(row, prompt))
        if system and turns[0][0] != "system" and (system_text := _optional(row, system)):
            turns.insert(0, ("system", system_text))
        check_turns(turns)
        return _from_turns(turns, None)

    return convert


def _marked_pairs(columns: dict[str, str]) -> Convert:
    """The rows that `engine.data.conversion.judged_answers` made."""
    roles: dict[str, str] = {role: columns[role] for role in ("prompt", "system") if role in columns}
    return _preference({**roles, "chosen": columns["completion"], "rejected": REJECTED})


def _asked(row: FileRow, prompt: str | None) -> Turns:
    if not prompt:
        return []
    value = list_in_text(row.get(prompt))
    if type(value) is list:
        return read_turns(value, prompt)
    return [("user", _required(row, prompt))]


def _answer(row: FileRow, column: str, asked: Turns) -> Turns:
    value = list_in_text(row.get(column))
    if type(value) is list:
        turns = read_turns(value, column)
        return turns if len(turns) > 1 else [*asked, *turns]
    text = _required(row, column)
    if asked:
        return [*asked, ("assistant", text)]
    turns = spoken_turns(text)
    if not turns:
        raise RowSkipped("there is no prompt, and the answers are no conversations")
    if any(not content for _, content in turns):
        raise RowSkipped("a turn is empty")
    return turns


def _from_turns(turns: Turns, rejected: str | None) -> Canonical:
    roles, contents = zip(*turns, strict=True)
    return Canonical(roles, contents, "\n\n".join(contents), None, rejected)
