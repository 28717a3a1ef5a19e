"""Judged answers: two answers and the better one, one answer marked good or bad, and pairs of marked answers.

A column with few values decides (1 and 2, "A", "output_1", true and false). The meaning of the values is
inferred from the values and the column names and is always reported. If the meaning of a value is unclear,
the format is not detected, so that nobody trains on the worse answer.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from engine.data.conversion.conversation_turns import find_turn_keys
from engine.data.readers.file_rows import (
    ALIASES,
    FileRow,
    FileRows,
    ReadRow,
    RowSkipped,
    encode_row,
    list_values,
    make_skipped_row,
    normalise_name,
    sanitise_json,
)
from store.core.errors import DataError
from store.data.formats import REJECTED_OF_A_PAIR, TIE, WITHOUT_PARTNER, assign_roles

ANSWER_STEMS = frozenset(
    (
        "output", "response", "answer", "completion", "candidate", "reply", "generation", "summary", "text",
        "message", "conversation",
    )
)  # fmt: skip
BETTER_NAMES = (
    "label", "preference", "preferred", "winner", "better", "best", "choice", "vote", "human_label",
    "human_preference", "gold", "gold_label", "better_response_id", "preferred_output",
    "overall_preference",
)  # fmt: skip
ANNOTATOR = re.compile(r"(annotator|rater|judge|vote|label)_?\d+")
MARKS = (
    "label", "labels", "desirable", "is_desirable", "good", "is_good", "feedback", "thumbs", "rating",
    "score", "accepted", "is_accepted", "correct", "is_correct", "preferred", "liked", "vote", "quality",
    "helpful",
)  # fmt: skip
GOOD = frozenset(
    (
        "true", "1", "yes", "y", "good", "desirable", "positive", "chosen", "accepted", "up", "thumbs_up",
        "correct", "helpful", "like",
    )
)  # fmt: skip
BAD = frozenset(
    (
        "false", "0", "-1", "no", "n", "bad", "undesirable", "negative", "rejected", "down", "thumbs_down",
        "incorrect", "unhelpful", "dislike",
    )
)  # fmt: skip
SIDE_PAIRS = (("1", "2"), ("0", "1"), ("a", "b"), ("first", "second"), ("left", "right"))
MAX_VALUES = 12
_MEMBER = re.compile(r"(.*?)_?(1|2|0|a|b|first|second|left|right)")


def format_value_key(value: Any) -> str:
    """Return a value as a key of meanings.

    Booleans become true and false, whole numbers lose their decimal point, and texts are stripped and
    casefolded.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().casefold()


def list_value_keys(rows: FileRows, columns: Sequence[str]) -> list[str] | None:
    """Return the distinct values of the columns together, or None if they are too many to be a choice."""
    keys: dict[str, None] = {}
    for column in columns:
        for value in list_values(rows, column):
            if isinstance(value, list | dict | bytes) or len(keys) > MAX_VALUES:
                return None
            keys.setdefault(format_value_key(value))
    return list(keys) if 0 < len(keys) <= MAX_VALUES else None


def recognise_comparison(
    columns: Sequence[str], names: Mapping[str, str], rows: FileRows
) -> dict[str, str] | None:
    """Match two answer columns, the column that says which is better (or one per annotator), and a prompt."""
    for first, second in find_answer_pairs(columns, rows):
        for better in _find_deciding_columns(columns, names, (first, second)):
            if infer_meanings(rows, better, first, second) is None:
                continue
            mapping = {"first": first, "second": second, **assign_roles("better", better)}
            aliases = ALIASES["comparison"]
            for role in ("prompt", "input", "system"):
                free = (names[alias] for alias in aliases[role] if alias in names)
                column = next((column for column in free if column not in mapping.values()), None)
                if column and all(isinstance(v, str) or find_turn_keys(v) for v in list_values(rows, column)):
                    mapping[role] = column
            if "prompt" in mapping or _are_conversations(rows, first):
                return mapping
    return None


def find_answer_pairs(columns: Sequence[str], rows: FileRows) -> list[tuple[str, str]]:
    """Return pairs of columns that hold two answers to the same prompt, by their names and values."""
    members: dict[tuple[str, str], str] = {}
    for column in columns:
        match = _MEMBER.fullmatch(normalise_name(column))
        if match and match[1].rpartition("_")[2] in ANSWER_STEMS:
            members.setdefault((match[1], match[2]), column)
    stems = dict.fromkeys(stem for stem, _ in members)
    pairs = [
        (members[stem, first], members[stem, second])
        for stem in stems
        for first, second in SIDE_PAIRS
        if (stem, first) in members
        and (stem, second) in members
        and sum(other == stem for other, _ in members) == 2
    ]
    return [pair for pair in pairs if all(_are_answers(rows, column) for column in pair)]


def _are_answers(rows: FileRows, column: str) -> bool:
    values = list_values(rows, column)
    texts = sum(isinstance(value, str) or bool(find_turn_keys(value)) for value in values)
    return texts * 2 > len(values)


def _are_conversations(rows: FileRows, column: str) -> bool:
    values = list_values(rows, column)
    return bool(values) and all(find_turn_keys(value) for value in values)


def _find_deciding_columns(
    columns: Sequence[str], names: Mapping[str, str], taken: tuple[str, str]
) -> list[list[str]]:
    named = [[names[alias]] for alias in BETTER_NAMES if alias in names and names[alias] not in taken]
    annotators = [column for column in columns if ANNOTATOR.fullmatch(normalise_name(column))]
    return [*named, *([annotators] if annotators else [])]


def infer_meanings(rows: FileRows, better: Sequence[str], first: str, second: str) -> dict[str, str] | None:
    """Return value -> first, second or tie, or None if a value means none of these."""
    keys = list_value_keys(rows, better)
    if keys is None:
        return None
    meanings = infer_side_meanings(keys, first, second)
    return meanings if set(meanings) >= set(keys) else None


def infer_side_meanings(keys: Sequence[str], first: str, second: str) -> dict[str, str]:
    """Return the meanings (first, second or tie) of those keys that are clear.

    first, second: names of the two answer columns.
    """
    marks = tuple(
        match[2] if (match := _MEMBER.fullmatch(normalise_name(column))) else "" for column in (first, second)
    )
    numbers = {key for key in keys if re.fullmatch(r"-?\d", key)}
    meanings = _map_numbers(numbers, marks)
    for key in keys:
        if key not in numbers:
            meanings |= _map_word(key, (first, second), marks)
    return meanings


def _map_numbers(numbers: set[str], marks: tuple[str, ...]) -> dict[str, str]:
    """Map numbers to sides: 1 and 2 name the answers, and 0 is then a tie; 0 and 1 count from 0.

    A single 1 is interpreted by the columns' own numbers: it is the first or the second of them.
    """
    from_zero = {"0": "first", "1": "second"}
    from_one = {"1": "first", "2": "second"}
    if "2" in numbers or (numbers == {"1"} and marks != ("0", "1")):
        rest = {"0": "tie"}
        return {key: {**from_one, **rest}[key] for key in numbers if key in {**from_one, **rest}}
    return {key: from_zero[key] for key in numbers if key in from_zero}


def _map_word(key: str, columns: tuple[str, str], marks: tuple[str, ...]) -> dict[str, str]:
    word = normalise_name(key)
    for side, column, mark, usual in zip(
        ("first", "second"), columns, marks, (("a", "first", "left"), ("b", "second", "right")), strict=True
    ):
        ends = word.rpartition("_")[2]
        if word == normalise_name(column) or (mark and ends == mark) or ends in usual:
            return {key: side}
    if re.match(r"(tie|both|draw|equal|same|neither|none)", word):
        return {key: "tie"}
    return {}


def decide_side(row: FileRow, better: Sequence[str], meanings: Mapping[str, str]) -> str:
    """Return the majority vote, first or second. Raises RowSkipped for a tie."""
    votes = []
    for column in better:
        value = row.get(column)
        if value is None or value != value or value == "":
            continue
        meaning = meanings.get(format_value_key(value))
        if meaning is None:
            raise RowSkipped(f"{column} is {str(value)[:30]!r}, which names neither answer as better")
        votes.append(meaning)
    if not votes:
        raise RowSkipped(f"{better[0]} is missing: the better answer is unknown")
    for side in ("first", "second"):
        if votes.count(side) * 2 > len(votes):
            return side
    raise RowSkipped(TIE)


def recognise_marked(names: Mapping[str, str], rows: FileRows) -> dict[str, str] | None:
    """Match a prompt, one answer, and a column that marks it good or bad."""
    marks = [names[alias] for alias in MARKS if alias in names]
    label = next((column for column in marks if infer_marks(rows, column)), None)
    if label is None:
        return None
    mapping: dict[str, str] = {}
    for role in ("prompt", "completion", "system"):
        free = (names[alias] for alias in ALIASES["marked"][role] if alias in names)
        taken = {label, *mapping.values()}
        column = next(
            (c for c in free if c not in taken and _are_answers(rows, c) and list_values(rows, c)), None
        )
        if column:
            mapping[role] = column
        elif role != "system":
            return None
    return {**mapping, "label": label}


def infer_marks(rows: FileRows, column: str) -> dict[str, str] | None:
    """Return value -> good or bad, or None if a value means neither."""
    keys = list_value_keys(rows, [column])
    if keys is None or len(keys) > 2:
        return None
    meanings: dict[str, str] = {}
    for key in keys:
        word = {key, normalise_name(key)}
        if word & (GOOD | BAD):
            meanings[key] = "good" if word & GOOD else "bad"
    return meanings if len(meanings) == len(keys) else None


def read_mark(row: FileRow, column: str, meanings: Mapping[str, str]) -> str:
    """Return good or bad. Raises RowSkipped if the row is marked neither."""
    value = row.get(column)
    if value is None or value != value or value == "":
        raise RowSkipped(f"{column} is missing: the answer is marked neither good nor bad")
    meaning = meanings.get(format_value_key(value))
    if meaning is None:
        raise RowSkipped(f"{column} is {str(value)[:30]!r}, which marks the answer neither good nor bad")
    return meaning


# Good and bad answers in separate rows are paired by prompt: the first good answer to a prompt with the first
# bad one, the second with the second, and so on. Every row of the file is accounted for: a pair is a row, at
# the line of its good answer. The line of the bad answer, and an answer without a partner, are skipped with
# the reason.
#
# The file is read twice. The first pass counts answers, so that the second only buffers those that will find
# a partner: a file without pairs buffers none.

REJECTED = "rejected answer"  # column added to the row of the good answer
MAX_WAITING = 1024**3  # bytes of buffered answers whose partner comes later in the file


class MarkColumns(NamedTuple):
    """Columns of prompt, answer and mark, and the meanings (good or bad) of the values of the mark."""

    prompt: str
    completion: str
    label: str
    meanings: Mapping[str, str]

    def prompt_key(self, row: FileRow) -> bytes:
        """Return a hash key that is equal for equal prompts, whether texts or turns."""
        value = json.dumps(sanitise_json(row.get(self.prompt)), sort_keys=True)
        return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def count_pairs(rows: Iterable[FileRow], marking: MarkColumns) -> Counter[bytes]:
    """Return the number of pairs that the answers to each prompt make."""
    counts: dict[str, Counter[bytes]] = {"good": Counter(), "bad": Counter()}
    for row in rows:
        try:
            counts[read_mark(row, marking.label, marking.meanings)][marking.prompt_key(row)] += 1
        except (RowSkipped, RecursionError):
            continue
    return counts["good"] & counts["bad"]


def has_enough_pairs(rows: FileRows, mapping: Mapping[str, str]) -> bool:
    """Return whether at least half of the rows find a partner among the rows."""
    meanings = infer_marks(rows, mapping["label"])
    if meanings is None:
        return False
    pairs = count_pairs(
        rows, MarkColumns(mapping["prompt"], mapping["completion"], mapping["label"], meanings)
    )
    return 4 * pairs.total() >= len(rows) > 0


def pair_up(rows: Iterable[ReadRow], marking: MarkColumns, pairs: Counter[bytes]) -> Iterator[ReadRow]:
    """Yield the items of the file, with pairs as rows that have the rejected answer in the column REJECTED.

    `pairs`: the result of `count_pairs` for the same rows. Raises DataError if too many answers would have to
    be buffered.
    """
    left = {mark: Counter(pairs) for mark in ("good", "bad")}
    waiting: dict[tuple[bytes, str], deque[tuple[int, FileRow, int]]] = {}
    held = 0
    for line, row in rows:
        if not isinstance(row, dict):
            yield line, row
            continue
        try:
            mark, key, size = (
                read_mark(row, marking.label, marking.meanings),
                marking.prompt_key(row),
                len(encode_row(row)),
            )
        except RowSkipped as fault:
            yield line, make_skipped_row(str(fault), _format_excerpt(row))
            continue
        except RecursionError:
            yield line, make_skipped_row("nests too deeply", "")
            continue
        if not left[mark][key]:
            yield line, make_skipped_row(WITHOUT_PARTNER[mark], _format_excerpt(row))
            continue
        left[mark][key] -= 1
        partners = waiting.get((key, "bad" if mark == "good" else "good"))
        if not partners:
            waiting.setdefault((key, mark), deque()).append((line, row, size))
            held += size
            if held > MAX_WAITING:
                raise _make_waiting_error(line)
            continue
        other_line, other, other_size = partners.popleft()
        held -= other_size
        good, bad = (
            ((line, row), (other_line, other)) if mark == "good" else ((other_line, other), (line, row))
        )
        yield good[0], {**good[1], REJECTED: bad[1].get(marking.completion)}
        yield bad[0], make_skipped_row(REJECTED_OF_A_PAIR, _format_excerpt(bad[1]))


def _format_excerpt(row: FileRow) -> str:
    return encode_row(row).decode("utf-8")


def _make_waiting_error(line: int) -> DataError:
    return DataError(
        f"At line {line} more than 1 GiB of answers waits for the other answer to its prompt.",
        fix="Sort the file by prompt, or import the good answers alone (format marked).",
        field="source",
    )
