"""Columns of which nothing would be used though they may change what is taught: a mark, an answer, a label.

`{"messages": …, "label": false}` read as conversations teaches every bad answer as a good one. So a column
is judged by its name together with its values, and one that may judge, answer or label a row stops the import
until somebody says what it is or leaves it out. What says where a row is from, what is the same in all rows,
and what only repeats the answer that is taught anyway asks nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from engine.data.conversion.conversation_turns import keys_of, list_in_text, read_turns
from engine.data.conversion.format_detection import FEW_VALUES, FLAGS, LABEL_LENGTH, ChosenFormat
from engine.data.conversion.judged_answers import marks_of, value_key
from engine.data.conversion.multiple_choice import place_of, read_choices, recognise_answers
from engine.data.readers.file_rows import (
    NUMBERING,
    FileRow,
    FileRows,
    RowSkipped,
    normalise,
    value_at,
    values_of,
)
from store.core.errors import DataError
from store.data.cleaning_text import MAY_BE, values_words
from store.data.config import Source, source_words
from store.data.formats import FORMATS, FormatName, columns_of
from store.data.schemas import ColumnUse, MayBe, UndecidedColumn

JUDGING = frozenset(
    (
        "accepted", "acceptable", "annotation", "annotator", "approved", "bad", "best", "better",
        "choice", "coherence", "correct", "correctness", "desirable", "dislike", "disliked", "downvote",
        "flag", "flagged", "feedback", "good", "grade", "harmful", "helpful", "helpfulness", "incorrect",
        "judge", "judgement", "judgment", "keep", "label", "like", "liked", "mark", "ok", "pass",
        "passed", "preference", "preferred", "quality", "rank", "rater", "rating", "relevance",
        "relevant", "reward", "safe", "score", "star", "success", "thumb", "toxic", "toxicity", "unsafe",
        "upvote", "valid", "verdict", "vote", "winner", "worse", "wrong",
    )
)  # fmt: skip
ANSWERING = frozenset(
    (
        "answer", "chosen", "completion", "corrected", "correction", "dispreferred", "expected",
        "generation", "gold", "output", "prediction", "reference", "rejected", "reply", "response",
        "revised", "solution", "summary", "target", "translation",
    )
)  # fmt: skip
# Last words of names that say where, when, by whom or how large: of a row, or of one of its answers.
NEUTRAL = frozenset(
    (
        "at", "author", "by", "dataset", "date", "domain", "end", "file", "filename", "hash", "lang",
        "language", "len", "length", "license", "licence", "line", "link", "model", "month", "offset",
        "origin", "path", "position", "second", "site", "source", "split", "start", "subset", "time",
        "timestamp", "token", "uri", "url", "user", "version", "website", "writer", "year",
    )
)  # fmt: skip
NUMBERS = (
    "id",
    "idx",
    "index",
    "no",
    "num",
    "number",
)  # last words of names that count rows, or name a choice
JUDGED = ("preference", "comparison", "marked", "marked_pairs")  # formats that say what is good
TAUGHT = (
    "messages", "conversations", "chosen", "first", "second", "completion", "output", "answer", "label",
    "text",
)  # fmt: skip
TURN_FIELDS = frozenset(
    ("role", "content", "from", "value", "name", "tool_calls", "tool_call_id", "function_call")
)  # fmt: skip
NOT_ANSWERING = ("system", "user", "human", "tool", "developer")
WEIGHTS = ("weight", "train", "trainable", "loss")  # fields of a turn
MAX_CHOICES = 12  # distinct numbers that may name a class, an answer or a side
MIN_LABELLED = 10  # rows with a value, from which few distinct ones say that they are labels
MAX_SHOWN, MAX_SHOWN_LENGTH, MAX_NAMED, MAX_USES = 4, 40, 5, 4

_LOCATOR = re.compile(  # an address, a date, a hash, a UUID
    r"\s*(https?://\S*|\d{4}-\d\d-\d\d([T ]\S*)?"
    r"|[0-9a-fA-F]{16,}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})\s*"
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


class TaughtRows(NamedTuple):
    """How rows are read, and some of them, with what lies at `columns`: those of the file and paths into
    objects. kept: columns that are used beside the mapping, as that of parts."""

    chosen: ChosenFormat
    rows: FileRows
    columns: Sequence[str]
    mappings: Mapping[FormatName, dict[str, str]]  # of every format that fits
    kept: frozenset[str] = frozenset()


def find_undecided(taught: TaughtRows, ignore: Sequence[str]) -> list[UndecidedColumn]:
    """The unused columns, paths into objects and fields of turns of which somebody has to say what they are.
    ignore: those left out on purpose."""
    judged = [(name, judge_column(name, taught)) for name in unused_columns(taught)]
    judged += [(name, _judge_field(name, taught, turns)) for name, turns in _fields_of_turns(taught).items()]
    return [column for name, column in judged if column and not is_covered(name, ignore)]


def unused_columns(taught: TaughtRows) -> list[str]:
    """Columns and paths of which nothing is used. What lies inside a column that is used is used with it; of
    a list, what its items hold is the list's own."""
    used = {*taught.chosen.mapping.values(), *taught.kept}
    return [
        name
        for name in taught.columns
        if name not in used
        and not any(name.startswith(f"{column}.") or column.startswith(f"{name}.") for column in used)
        and not any(part.isdecimal() for part in name.split(".")[1:])
    ]


def _fields_of_turns(taught: TaughtRows) -> dict[str, list[FileRow]]:
    """What turns hold beside speaker and text: column.field -> the turns of the assistant, as rows."""
    fields: dict[str, list[FileRow]] = {}
    for column in taught.chosen.mapping.values():
        values = (list_in_text(value_at(row, column)) for row in taught.rows)
        turns = [turn for value in values if keys_of(value) for turn in value if isinstance(turn, dict)]
        turns = [turn for turn in turns if turn.get("role", turn.get("from")) not in NOT_ANSWERING]
        for field in dict.fromkeys(field for turn in turns for field in turn if field not in TURN_FIELDS):
            name = f"{column}.{field}"
            fields[name] = [{name: turn.get(field)} for turn in turns]
    return fields


def _judge_field(name: str, taught: TaughtRows, turns: list[FileRow]) -> UndecidedColumn | None:
    """As a column of rows that are turns; a weight of a turn says whether it is trained on."""
    of_turns = taught._replace(rows=turns, mappings={}, chosen=taught.chosen._replace(guessed=False))
    values = {as_text(turn[name]) for turn in turns}
    if name.rpartition(".")[2] not in WEIGHTS or len(values) < 2:
        return judge_column(name, of_turns)
    examples = sorted(filter(None, values))
    return {
        "name": name,
        "may_be": "mark",
        "values": examples[:MAX_SHOWN],
        "distinct": len(examples),
        "uses": [],
    }


def is_covered(name: str, ignore: Iterable[str]) -> bool:
    """Whether a column, or a path inside of it, is among those left out on purpose."""
    return any(name == left or name.startswith(f"{left}.") for left in ignore)


def refuse_undecided(
    undecided: Sequence[UndecidedColumn], source: Source, line: int | None = None
) -> DataError:
    """The error that names file, columns, some of their values, and the mapping to give. line: of the row
    that shows it."""
    named = undecided[:MAX_NAMED]
    described = "; ".join(
        f"{column['name']!r} ({values_words(column)}) {MAY_BE[column['may_be']]}" for column in named
    )
    more = f", and {len(undecided) - MAX_NAMED} more" if len(undecided) > MAX_NAMED else ""
    left = " ".join(f"--ignore {shlex.quote(column['name'])}" for column in undecided)
    uses = list(dict.fromkeys(use_options(use) for column in named for use in column["uses"]))
    unread = "Map it to a role (--column), or take rows that should not be taught out of the file"
    use = f"Say how it is used, such as {' or '.join(uses[:2])}" if uses else unread
    which = "a column" if len(undecided) == 1 else "columns"
    where = f" at line {line:,}" if line else ""
    return DataError(
        f"{source_words(source)} has{where} {which} of which nothing would be used: {described}{more}.",
        fix=f"{use}. To leave {'it' if len(undecided) == 1 else 'them'} out on purpose: {left}.",
        field="ignore",
    )


def use_options(use: ColumnUse) -> str:
    """A way to use a column, as options of the command line."""
    roles = FORMATS[use["format"]].roles
    mapped = [
        (role if role in roles else role.rpartition("_")[0], name) for role, name in use["columns"].items()
    ]
    columns = [f"--column {shlex.quote(f'{role}={name}')}" for role, name in mapped]
    left = [f"--ignore {shlex.quote(use['instead_of'])}"] if "instead_of" in use else []
    return " ".join([f"--format {use['format']}", *columns, *left])


def judge_column(name: str, taught: TaughtRows) -> UndecidedColumn | None:
    """What an unused column may be; None where it asks nothing."""
    values = values_of(taught.rows, name)
    keys = Counter(text for value in values if (text := as_text(value)))
    if not keys or says_where(name, values, keys):
        return None
    if len(keys) == 1 and not _marks_some(name, values, taught):
        return None
    may_be = _may_be(name, values, keys, taught)
    if may_be is None:
        return None
    examples = [key[:MAX_SHOWN_LENGTH] for key, _ in keys.most_common(MAX_SHOWN)]
    uses: list[ColumnUse] = []
    for use in _uses(name, may_be, taught):
        if use not in uses:
            uses.append(use)
    return {
        "name": name,
        "may_be": may_be,
        "values": examples,
        "distinct": len(keys),
        "uses": uses[:MAX_USES],
    }


def _marks_some(name: str, values: list[Any], taught: TaughtRows) -> bool:
    """Whether one value marks some rows, and the others have none: `{"bad": true}`."""
    marking = words_in(name) & JUDGING or all(isinstance(value, bool) for value in values)
    return bool(marking) and len(values) < len(taught.rows)


def _may_be(name: str, values: list[Any], keys: Counter[str], taught: TaughtRows) -> MayBe | None:
    words = words_in(name)
    format = taught.chosen.format
    flag = are_flags(values)
    if format == "multiple_choice" and not flag and not words & ANSWERING:
        return "label" if words & JUDGING and _names_choices(name, taught) else None
    if _repeats_label(name, taught):
        return None
    if flag or words & JUDGING:
        if format in JUDGED and not flag and _rates_used(words, values, taught):
            return None
        return None if not flag and repeats_answer(name, taught, whole=True) else "mark"
    if words & ANSWERING:
        if format == "multiple_choice" and _names_same_choice(name, taught):
            return None
        return None if repeats_answer(name, taught) else "answer"
    if (taught.chosen.guessed or format in ("text_label", "text")) and are_labels(values, keys):
        return "label"
    if (taught.chosen.guessed or format == "text") and _are_texts(name, taught):
        return None if repeats_answer(name, taught) else "text"
    return None


def words_in(name: str) -> set[str]:
    """The words of a column's name, or of the last part of a path, without numbers and plural endings."""
    words = {word.lower() for word in _WORD.findall(name.rpartition(".")[2])}
    return {word[:-1] if word.endswith("s") and word[:-1] in JUDGING | ANSWERING else word for word in words}


def as_text(value: Any) -> str:
    """A value as text: of turns what the assistant says, of a list its texts; empty for an object."""
    texts, waiting = [], [value]
    while waiting:  # no recursion: lists of strangers nest hundreds of levels
        item = waiting.pop()
        if isinstance(item, str) and item.lstrip().startswith(("[", "{")):
            item = list_in_text(item)
        if isinstance(item, list) and not keys_of(item):
            waiting += reversed(item)
        else:
            texts.append(_text_of(item))
    return ", ".join(filter(None, texts))


def _text_of(value: Any) -> str:
    """As `as_text`, of what is no list but of turns."""
    if isinstance(value, list):
        try:
            return "\n".join(text for role, text in read_turns(value, "") if role == "assistant")
        except RowSkipped:
            return ""
    if isinstance(value, str):
        return value.strip()
    return "" if isinstance(value, dict | bytes) else value_key(value)


def is_neutral(name: str) -> bool:
    """Whether a column says by its name where, when or by whom a row is, or numbers the rows."""
    return normalise(name) in NUMBERING or _last_word(name) in NEUTRAL


def _last_word(name: str) -> str:
    words = _WORD.findall(name.rpartition(".")[2])
    return str(words[-1]).lower().removesuffix("s") if words else ""


def says_where(name: str, values: list[Any], keys: Counter[str]) -> bool:
    """Whether a column says where or when a row is from, or numbers the rows."""
    if is_neutral(name):
        return True
    if _last_word(name) in NUMBERS and len(keys) > MAX_CHOICES:
        return True
    whole = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
    steps = {after - before for before, after in itertools.pairwise(whole)}
    if len(whole) == len(values) > 2 and steps == {1}:
        return True
    return all(_LOCATOR.fullmatch(part) for key in keys for part in key.split(", "))


def are_flags(values: list[Any]) -> bool:
    """Whether values say yes or no, or one of two numbers."""
    if any(isinstance(value, list | dict | bytes) for value in values):
        return False
    keys = {value_key(value) for value in values}
    return keys <= {"true", "false"} or any(keys == pair for pair in FLAGS)


def are_labels(values: list[Any], keys: Counter[str]) -> bool:
    """Few short values that come again and again."""
    if any(isinstance(value, list | dict | bytes) for value in values):
        return False
    if any(isinstance(value, float) and value % 1 for value in values):
        return False
    few = len(values) >= MIN_LABELLED and len(keys) <= FEW_VALUES * len(values)
    return few and max(map(len, keys)) <= LABEL_LENGTH


def _are_few(name: str, taught: TaughtRows) -> bool:
    values = values_of(taught.rows, name)
    return are_flags(values) or are_labels(values, Counter(map(as_text, values)))


def _are_texts(name: str, taught: TaughtRows) -> bool:
    """Texts of several words, about as long as what is taught."""
    texts = [value for value in values_of(taught.rows, name) if isinstance(value, str)]
    spoken = [text for text in texts if len(text.split()) > 2]
    own = [len(text) for row in taught.rows if (text := _taught_text(row, taught.chosen))]
    if not spoken or not own or len(spoken) * 2 < len(values_of(taught.rows, name)):
        return False
    return sum(map(len, spoken)) / len(spoken) * 2 >= sum(own) / len(own)


def _taught_text(row: FileRow, chosen: ChosenFormat) -> str:
    if chosen.format == "multiple_choice":
        with contextlib.suppress(RowSkipped):
            choices, names = read_choices(row, columns_of(chosen.mapping, "choices"))
            place = place_of(
                value_at(row, chosen.mapping["answer"]), choices, chosen.answers or "text", names
            )
            return choices[place]
    roles = [role for role in TAUGHT if role in chosen.mapping]
    columns = [column for role in roles for column in columns_of(chosen.mapping, role)]
    return "\n".join(filter(None, (as_text(value_at(row, column)) for column in columns)))


def repeats_answer(name: str, taught: TaughtRows, *, whole: bool = False) -> bool:
    """Whether each value stands in the answer that its row teaches, as B in "It is B."; whole: is it."""
    for row in taught.rows:
        value = as_text(row.get(name)).casefold()
        if not value:
            continue
        answer = _taught_text(row, taught.chosen).casefold()
        if value != answer and (whole or not re.search(rf"(?<!\w){re.escape(value)}(?!\w)", answer)):
            return False
    return True


def _repeats_label(name: str, taught: TaughtRows) -> bool:
    """Whether a column says the same classes as the label in other words: 0 and 1 beside ham and spam."""
    label = taught.chosen.mapping.get("label")
    if taught.chosen.format != "text_label" or label is None:
        return False
    pairs = {(as_text(row.get(name)), as_text(value_at(row, label))) for row in taught.rows}
    return len({own for own, _ in pairs}) == len(pairs) == len({other for _, other in pairs})


def _rates_used(words: set[str], values: list[Any], taught: TaughtRows) -> bool:
    """Whether numbers rate one of the answers that are judged already: `score_chosen` beside `chosen`."""
    used = {word for column in taught.chosen.mapping.values() for word in words_in(column)}
    rest = {word for word in words if word not in JUDGING}
    numbers = all(isinstance(value, int | float) for value in values)
    return numbers and bool(rest) and rest <= used


def _names_choices(name: str, taught: TaughtRows) -> bool:
    return recognise_answers(taught.rows, columns_of(taught.chosen.mapping, "choices"), name) is not None


def _in_place(chosen: ChosenFormat, role: str, name: str) -> ColumnUse:
    columns = {**chosen.mapping, role: name}
    return {"format": chosen.format, "columns": columns, "instead_of": chosen.mapping[role]}


def _names_same_choice(name: str, taught: TaughtRows) -> bool:
    """Whether a column names the right choice in another way: B beside 1."""
    columns = columns_of(taught.chosen.mapping, "choices")
    by = recognise_answers(taught.rows, columns, name)
    for row in taught.rows:
        if by and row.get(name) not in (None, ""):
            try:
                choices, names = read_choices(row, columns)
                if choices[place_of(row.get(name), choices, by, names)] != _taught_text(row, taught.chosen):
                    return False
            except RowSkipped:
                return False
    return by is not None


def _uses(name: str, may_be: MayBe, taught: TaughtRows) -> Iterator[ColumnUse]:
    """How the column can be used: as the formats that fit have it, and in place of one like it."""
    chosen = taught.chosen
    form = FORMATS[chosen.format]
    for format, mapping in taught.mappings.items():
        if name in mapping.values() and format != "text":
            yield {"format": format, "columns": dict(mapping)}
    labelled = may_be == "label" or (may_be == "mark" and _are_few(name, taught))
    if labelled and "label" in chosen.mapping:
        yield _in_place(chosen, "label", name)
    elif labelled and chosen.format == "text":
        yield {"format": "text_label", "columns": {"text": chosen.mapping["text"], "label": name}}
    elif may_be == "mark" and chosen.format in PAIRS and marks_of(taught.rows, name):
        question, answer = (chosen.mapping[role] for role in form.required)
        yield {"format": "marked", "columns": {"prompt": question, "completion": answer, "label": name}}
    elif may_be == "answer" and chosen.format in PAIRS:
        yield _in_place(chosen, form.required[-1], name)
    elif may_be == "text" and chosen.format == "text":
        yield {
            "format": "prompt_completion",
            "columns": {"prompt": chosen.mapping["text"], "completion": name},
        }


PAIRS = ("instruction", "question_answer", "prompt_completion")
