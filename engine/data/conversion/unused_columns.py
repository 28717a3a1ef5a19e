"""Detect unused columns that may change what is trained: a mark, an answer or a label.

`{"messages": …, "label": false}` read as conversations trains every bad answer as a good one. So every unused
column is judged by its name and its values, and one that may mark, answer or label a row stops the import
until the user maps or excludes it. Columns that say where a row is from, are constant, or only repeat the
trained answer need no decision.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from engine.data.conversion.conversation_turns import find_turn_keys, parse_list, read_turns
from engine.data.conversion.format_detection import FEW_VALUES, FLAGS, LABEL_LENGTH, ChosenFormat
from engine.data.conversion.judged_answers import format_value_key, infer_marks
from engine.data.conversion.multiple_choice import find_answer_index, read_choices, recognise_answers
from engine.data.readers.file_rows import (
    ROW_NUMBER_NAMES,
    FileRow,
    FileRows,
    RowSkipped,
    list_values,
    normalise_name,
    read_path,
)
from store.core.errors import DataError
from store.data.cleaning_text import MAY_BE, format_some_values
from store.data.config import Source, describe_source
from store.data.formats import FORMATS, FormatName, list_columns
from store.data.schemas import ColumnUse, UndecidedColumn, UnusedColumnRole

JUDGING_WORDS = frozenset(
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
ANSWER_WORDS = frozenset(
    (
        "answer", "chosen", "completion", "corrected", "correction", "dispreferred", "expected",
        "generation", "gold", "output", "prediction", "reference", "rejected", "reply", "response",
        "revised", "solution", "summary", "target", "translation",
    )
)  # fmt: skip
# Last words of names that give the origin, time, author or size of a row or of one of its answers.
NEUTRAL_WORDS = frozenset(
    (
        "at", "author", "by", "dataset", "date", "domain", "end", "file", "filename", "hash", "lang",
        "language", "len", "length", "license", "licence", "line", "link", "model", "month", "offset",
        "origin", "path", "position", "second", "site", "source", "split", "start", "subset", "time",
        "timestamp", "token", "uri", "url", "user", "version", "website", "writer", "year",
    )
)  # fmt: skip
NUMBERING_WORDS = (
    "id",
    "idx",
    "index",
    "no",
    "num",
    "number",
)  # last words of names that number rows or name a choice
JUDGED_FORMATS = ("preference", "comparison", "marked", "marked_pairs")  # formats that include a judgement
TRAINED_ROLES = (
    "messages", "conversations", "chosen", "first", "second", "completion", "output", "answer", "label",
    "text",
)  # fmt: skip
TURN_FIELDS = frozenset(
    ("role", "content", "from", "value", "name", "tool_calls", "tool_call_id", "function_call")
)  # fmt: skip
NON_ANSWER_ROLES = ("system", "user", "human", "tool", "developer")
WEIGHT_FIELDS = ("weight", "train", "trainable", "loss")  # fields of a turn
MAX_CHOICES = 12  # most distinct numbers that may name a class, an answer or a side
MIN_LABELLED = 10  # minimum rows with a value for few distinct values to be labels
MAX_SHOWN, MAX_SHOWN_LENGTH, MAX_NAMED, MAX_USES = 4, 40, 5, 4

_LOCATOR = re.compile(  # an address, a date, a hash, a UUID
    r"\s*(https?://\S*|\d{4}-\d\d-\d\d([T ]\S*)?"
    r"|[0-9a-fA-F]{16,}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})\s*"
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


class RowSample(NamedTuple):
    """A sample of rows and how they are read.

    rows: include the values at `columns`, which are columns of the file and paths into objects. kept: columns
    used in addition to the mapping, such as the part column.
    """

    chosen: ChosenFormat
    rows: FileRows
    columns: Sequence[str]
    mappings: Mapping[FormatName, dict[str, str]]  # of every format that fits
    kept: frozenset[str] = frozenset()


def find_undecided(taught: RowSample, ignore: Sequence[str]) -> list[UndecidedColumn]:
    """Return the unused columns, paths and fields of turns that the user has to decide on.

    ignore: those that the user excluded.
    """
    judged = [(name, judge_column(name, taught)) for name in find_unused_columns(taught)]
    judged += [
        (name, _judge_field(name, taught, turns)) for name, turns in _collect_turn_fields(taught).items()
    ]
    return [column for name, column in judged if column and not is_covered(name, ignore)]


def find_unused_columns(taught: RowSample) -> list[str]:
    """Return the unused columns and paths.

    Everything inside a used column counts as used. Items of a list belong to the list.
    """
    used = {*taught.chosen.mapping.values(), *taught.kept}
    return [
        name
        for name in taught.columns
        if name not in used
        and not any(name.startswith(f"{column}.") or column.startswith(f"{name}.") for column in used)
        and not any(part.isdecimal() for part in name.split(".")[1:])
    ]


def _collect_turn_fields(taught: RowSample) -> dict[str, list[FileRow]]:
    """Return the extra fields of turns: column.field -> the assistant turns, as rows."""
    fields: dict[str, list[FileRow]] = {}
    for column in taught.chosen.mapping.values():
        values = (parse_list(read_path(row, column)) for row in taught.rows)
        turns = [
            turn for value in values if find_turn_keys(value) for turn in value if isinstance(turn, dict)
        ]
        turns = [turn for turn in turns if turn.get("role", turn.get("from")) not in NON_ANSWER_ROLES]
        for field in dict.fromkeys(field for turn in turns for field in turn if field not in TURN_FIELDS):
            name = f"{column}.{field}"
            fields[name] = [{name: turn.get(field)} for turn in turns]
    return fields


def _judge_field(name: str, taught: RowSample, turns: list[FileRow]) -> UndecidedColumn | None:
    """Judge a field of turns like a column of rows; a weight says whether a turn is trained on."""
    of_turns = taught._replace(rows=turns, mappings={}, chosen=taught.chosen._replace(guessed=False))
    values = {extract_text(turn[name]) for turn in turns}
    if name.rpartition(".")[2] not in WEIGHT_FIELDS or len(values) < 2:
        return judge_column(name, of_turns)
    examples = sorted(filter(None, values))
    return UndecidedColumn(
        name=name,
        may_be="mark",
        values=examples[:MAX_SHOWN],
        distinct=len(examples),
        uses=[],
    )


def is_covered(name: str, ignore: Iterable[str]) -> bool:
    """Return whether a column, or a path inside it, is excluded."""
    return any(name == left or name.startswith(f"{left}.") for left in ignore)


def make_undecided_error(
    undecided: Sequence[UndecidedColumn], source: Source, line: int | None = None
) -> DataError:
    """Build the error that names the file, the columns, some of their values, and the mapping to use.

    line: line of the row that shows it.
    """
    named = undecided[:MAX_NAMED]
    described = "; ".join(
        f"{column.name!r} ({format_some_values(column)}) {MAY_BE[column.may_be]}" for column in named
    )
    more = f", and {len(undecided) - MAX_NAMED} more" if len(undecided) > MAX_NAMED else ""
    left = " ".join(f"--ignore {shlex.quote(column.name)}" for column in undecided)
    uses = list(dict.fromkeys(format_use_options(use) for column in named for use in column.uses))
    unread = "Map it to a role (--column), or take rows that should not be taught out of the file"
    use = f"Map it, for example as {' or '.join(uses[:2])}" if uses else unread
    which = "a column" if len(undecided) == 1 else "columns"
    where = f" at line {line:,}" if line else ""
    return DataError(
        f"{describe_source(source)} has{where} {which} of which nothing would be used: {described}{more}.",
        fix=f"{use}. To leave {'it' if len(undecided) == 1 else 'them'} out on purpose: {left}.",
        field="ignore",
    )


def format_use_options(use: ColumnUse) -> str:
    """Return a use of a column as command-line options."""
    roles = FORMATS[use.format].roles
    mapped = [
        (role if role in roles else role.rpartition("_")[0], name) for role, name in use.columns.items()
    ]
    columns = [f"--column {shlex.quote(f'{role}={name}')}" for role, name in mapped]
    left = [f"--ignore {shlex.quote(use.instead_of)}"] if use.instead_of is not None else []
    return " ".join([f"--format {use.format}", *columns, *left])


def judge_column(name: str, taught: RowSample) -> UndecidedColumn | None:
    """Return what an unused column may be, or None if it needs no decision."""
    values = list_values(taught.rows, name)
    keys = Counter(text for value in values if (text := extract_text(value)))
    if not keys or is_locator(name, values, keys):
        return None
    if len(keys) == 1 and not _is_sparse_mark(name, values, taught):
        return None
    may_be = _guess_use(name, values, keys, taught)
    if may_be is None:
        return None
    examples = [key[:MAX_SHOWN_LENGTH] for key, _ in keys.most_common(MAX_SHOWN)]
    uses: list[ColumnUse] = []
    for use in _list_uses(name, may_be, taught):
        if use not in uses:
            uses.append(use)
    return UndecidedColumn(
        name=name,
        may_be=may_be,
        values=examples,
        distinct=len(keys),
        uses=uses[:MAX_USES],
    )


def _is_sparse_mark(name: str, values: list[Any], taught: RowSample) -> bool:
    """Return whether one value marks some rows and the others have none: `{"bad": true}`."""
    marking = split_name(name) & JUDGING_WORDS or all(isinstance(value, bool) for value in values)
    return bool(marking) and len(values) < len(taught.rows)


def _guess_use(
    name: str, values: list[Any], keys: Counter[str], taught: RowSample
) -> UnusedColumnRole | None:
    words = split_name(name)
    format = taught.chosen.format
    flag = are_flags(values)
    if format == "multiple_choice" and not flag and not words & ANSWER_WORDS:
        choices = list_columns(taught.chosen.mapping, "choices")
        named = words & JUDGING_WORDS and recognise_answers(taught.rows, choices, name) is not None
        return "label" if named else None
    if _is_label_copy(name, taught):
        return None
    if flag or words & JUDGING_WORDS:
        if format in JUDGED_FORMATS and not flag and _is_rating_of_used(words, values, taught):
            return None
        return None if not flag and repeats_answer(name, taught, whole=True) else "mark"
    if words & ANSWER_WORDS:
        if format == "multiple_choice" and _is_same_choice(name, taught):
            return None
        return None if repeats_answer(name, taught) else "answer"
    if (taught.chosen.guessed or format in ("text_label", "text")) and are_labels(values, keys):
        return "label"
    if (taught.chosen.guessed or format == "text") and _are_texts(name, taught):
        return None if repeats_answer(name, taught) else "text"
    return None


def split_name(name: str) -> set[str]:
    """Return the words of a column name, or of a path's last part, without numbers and plural endings."""
    words = {word.lower() for word in _WORD.findall(name.rpartition(".")[2])}
    return {
        word[:-1] if word.endswith("s") and word[:-1] in JUDGING_WORDS | ANSWER_WORDS else word
        for word in words
    }


def extract_text(value: Any) -> str:
    """Return a value as text: the assistant's turns, the texts of a list, or empty for an object."""
    texts, waiting = [], [value]
    while waiting:  # no recursion: untrusted lists may be nested hundreds of levels deep
        item = waiting.pop()
        if isinstance(item, str) and item.lstrip().startswith(("[", "{")):
            item = parse_list(item)
        if isinstance(item, list) and not find_turn_keys(item):
            waiting += reversed(item)
        else:
            texts.append(_extract_turn_text(item))
    return ", ".join(filter(None, texts))


def _extract_turn_text(value: Any) -> str:
    """Return the text of a value that is a list of turns or not a list."""
    if isinstance(value, list):
        try:
            return "\n".join(text for role, text in read_turns(value, "") if role == "assistant")
        except RowSkipped:
            return ""
    if isinstance(value, str):
        return value.strip()
    return "" if isinstance(value, dict | bytes) else format_value_key(value)


def is_neutral(name: str) -> bool:
    """Return whether a column's name denotes the origin, time or author of a row, or a row number."""
    return normalise_name(name) in ROW_NUMBER_NAMES or _find_last_word(name) in NEUTRAL_WORDS


def _find_last_word(name: str) -> str:
    words = _WORD.findall(name.rpartition(".")[2])
    return str(words[-1]).lower().removesuffix("s") if words else ""


def is_locator(name: str, values: list[Any], keys: Counter[str]) -> bool:
    """Return whether a column gives the origin or time of a row, or numbers the rows."""
    if is_neutral(name):
        return True
    if _find_last_word(name) in NUMBERING_WORDS and len(keys) > MAX_CHOICES:
        return True
    whole = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
    steps = {after - before for before, after in itertools.pairwise(whole)}
    if len(whole) == len(values) > 2 and steps == {1}:
        return True
    return all(_LOCATOR.fullmatch(part) for key in keys for part in key.split(", "))


def are_flags(values: list[Any]) -> bool:
    """Return whether the values are yes/no or one of two numbers."""
    if any(isinstance(value, list | dict | bytes) for value in values):
        return False
    keys = {format_value_key(value) for value in values}
    return keys <= {"true", "false"} or any(keys == pair for pair in FLAGS)


def are_labels(values: list[Any], keys: Counter[str]) -> bool:
    """Return whether the values are few, short and repeated."""
    if any(isinstance(value, list | dict | bytes) for value in values):
        return False
    if any(isinstance(value, float) and value % 1 for value in values):
        return False
    few = len(values) >= MIN_LABELLED and len(keys) <= FEW_VALUES * len(values)
    return few and max(map(len, keys)) <= LABEL_LENGTH


def _are_few(name: str, taught: RowSample) -> bool:
    values = list_values(taught.rows, name)
    return are_flags(values) or are_labels(values, Counter(map(extract_text, values)))


def _are_texts(name: str, taught: RowSample) -> bool:
    """Return whether the values are texts of several words, about as long as the trained texts."""
    texts = [value for value in list_values(taught.rows, name) if isinstance(value, str)]
    spoken = [text for text in texts if len(text.split()) > 2]
    own = [len(text) for row in taught.rows if (text := _read_trained_text(row, taught.chosen))]
    if not spoken or not own or len(spoken) * 2 < len(list_values(taught.rows, name)):
        return False
    return sum(map(len, spoken)) / len(spoken) * 2 >= sum(own) / len(own)


def _read_trained_text(row: FileRow, chosen: ChosenFormat) -> str:
    if chosen.format == "multiple_choice":
        with contextlib.suppress(RowSkipped):
            choices, names = read_choices(row, list_columns(chosen.mapping, "choices"))
            place = find_answer_index(
                read_path(row, chosen.mapping["answer"]), choices, chosen.answers or "text", names
            )
            return choices[place]
    roles = [role for role in TRAINED_ROLES if role in chosen.mapping]
    columns = [column for role in roles for column in list_columns(chosen.mapping, role)]
    return "\n".join(filter(None, (extract_text(read_path(row, column)) for column in columns)))


def repeats_answer(name: str, taught: RowSample, *, whole: bool = False) -> bool:
    """Return whether each value occurs in the trained answer of its row, as B in "It is B.".

    whole: it must equal the answer.
    """
    for row in taught.rows:
        value = extract_text(row.get(name)).casefold()
        if not value:
            continue
        answer = _read_trained_text(row, taught.chosen).casefold()
        if value != answer and (whole or not re.search(rf"(?<!\w){re.escape(value)}(?!\w)", answer)):
            return False
    return True


def _is_label_copy(name: str, taught: RowSample) -> bool:
    """Return whether a column has the same classes as the label in other words: 0 and 1 for ham and spam."""
    label = taught.chosen.mapping.get("label")
    if taught.chosen.format != "text_label" or label is None:
        return False
    pairs = {(extract_text(row.get(name)), extract_text(read_path(row, label))) for row in taught.rows}
    return len({own for own, _ in pairs}) == len(pairs) == len({other for _, other in pairs})


def _is_rating_of_used(words: set[str], values: list[Any], taught: RowSample) -> bool:
    """Return whether numbers rate an answer that is already judged: `score_chosen` for `chosen`."""
    used = {word for column in taught.chosen.mapping.values() for word in split_name(column)}
    rest = {word for word in words if word not in JUDGING_WORDS}
    numbers = all(isinstance(value, int | float) for value in values)
    return numbers and bool(rest) and rest <= used


def _replace_role(chosen: ChosenFormat, role: str, name: str) -> ColumnUse:
    columns = {**chosen.mapping, role: name}
    return ColumnUse(format=chosen.format, columns=columns, instead_of=chosen.mapping[role])


def _is_same_choice(name: str, taught: RowSample) -> bool:
    """Return whether a column names the right choice in another way: B for 1."""
    columns = list_columns(taught.chosen.mapping, "choices")
    by = recognise_answers(taught.rows, columns, name)
    for row in taught.rows:
        if by and row.get(name) not in (None, ""):
            try:
                choices, names = read_choices(row, columns)
                if choices[find_answer_index(row.get(name), choices, by, names)] != _read_trained_text(
                    row, taught.chosen
                ):
                    return False
            except RowSkipped:
                return False
    return by is not None


def _list_uses(name: str, may_be: UnusedColumnRole, taught: RowSample) -> Iterator[ColumnUse]:
    """Yield the possible uses of the column: in other formats that fit, and in place of a similar column."""
    chosen = taught.chosen
    form = FORMATS[chosen.format]
    for format, mapping in taught.mappings.items():
        if name in mapping.values() and format != "text":
            yield ColumnUse(format=format, columns=dict(mapping))
    labelled = may_be == "label" or (may_be == "mark" and _are_few(name, taught))
    if labelled and "label" in chosen.mapping:
        yield _replace_role(chosen, "label", name)
    elif labelled and chosen.format == "text":
        yield ColumnUse(format="text_label", columns={"text": chosen.mapping["text"], "label": name})
    elif may_be == "mark" and chosen.format in PAIR_FORMATS and infer_marks(taught.rows, name):
        question, answer = (chosen.mapping[role] for role in form.required)
        yield ColumnUse(format="marked", columns={"prompt": question, "completion": answer, "label": name})
    elif may_be == "answer" and chosen.format in PAIR_FORMATS:
        yield _replace_role(chosen, form.required[-1], name)
    elif may_be == "text" and chosen.format == "text":
        yield ColumnUse(
            format="prompt_completion",
            columns={"prompt": chosen.mapping["text"], "completion": name},
        )


PAIR_FORMATS = ("instruction", "question_answer", "prompt_completion")
