"""Read a file of prompts for a rating round, with answers that models may have given already.

A row has `prompt` (a text) or `messages` (a conversation; a final answer is used as the reference), and
may have `reference` and answers: `answers`, an object of texts by name, or a column `answer:NAME` each. In
plain text files each line or paragraph is a prompt. Unusable rows are counted by reason. A row's id is its
position in the file, so that all jobs that read it agree.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from engine.data.conversion.conversation_turns import format_value, parse_texts, read_turns
from engine.data.readers.file_rows import FileRow, Reader, RowSkipped, SkippedRow
from engine.data.readers.source_reader import open_file
from engine.rating.answers import MAX_CHARACTERS
from store.core.config import check_single_line
from store.core.errors import DataError
from store.core.home import Home
from store.core.job_folder import JobDir
from store.core.rating_schemas import PromptTurn

FIELD = "prompts_file"
ANSWER_PREFIX = "answer:"  # prefix of columns with a model's answers
MAX_ROWS = 100_000
MAX_READ = 1_000_000  # rows, prompts or not: a small compressed file may have billions of other rows
MAX_TEXT = 2**28  # total characters of all rows
MAX_NAME = 120
LOOK_EVERY = 256  # rows between checks for cancellation


class FilePrompt(NamedTuple):
    """Prompt of a file; `row_id` is its position from 0, and `answers` are by model name."""

    row_id: int
    turns: list[PromptTurn]
    reference: str | None
    answers: dict[str, str]


class PromptsFileContent(NamedTuple):
    """Content of a prompts file.

    answered: number of answered prompts by model name. left_out: number of unusable rows by reason.
    """

    prompts: list[FilePrompt]
    answered: Counter[str]
    left_out: Counter[str]


def locate_held_file(round_folder: JobDir, of: str = "") -> Path:
    """Return the file in a round's folder with its prompts, or that of the config field `of`.

    Raises DataError if it no longer exists.
    """
    files = sorted(
        path
        for path in (round_folder.held / of).glob("*")
        if path.is_file() and not path.name.startswith(".")
    )
    if not files:
        what = "known answers" if of else "prompts"
        raise DataError(
            f"The file with the {what} no longer exists.", fix="Create the round again.", field=of or FIELD
        )
    return files[0]


def read_prompts(
    home: Home, path: Path, check: Callable[[int], None] = lambda rows: None
) -> PromptsFileContent:
    """Read the prompts of a file; `check` is called periodically with the number of rows and may raise to
    stop.

    Raises DataError (prompts_file) for a file that can't be read or has no prompts.
    """
    try:
        with closing(open_file(home, path, has_header=True)) as reader:
            read = _read(reader, path.name, check)
    except DataError as error:
        raise DataError(error.message, fix=error.fix, field=FIELD) from error
    if not read.prompts:
        reasons = "; ".join(f"{reason} ({count:,})" for reason, count in read.left_out.most_common(3))
        raise DataError(
            f"{path.name} has no prompt{f': {reasons}' if reasons else ''}.",
            fix="Give each row a text `prompt`, or a conversation `messages`.",
            field=FIELD,
        )
    return read


def _read(reader: Reader, name: str, check: Callable[[int], None]) -> PromptsFileContent:
    column = "text" if reader.name == "text" else "prompt"
    _check_columns(reader, name, column)
    prompts: list[FilePrompt] = []
    left_out: Counter[str] = Counter()
    seen: set[bytes] = set()
    size = 0
    for row_id, (_, row) in enumerate(reader.rows()):
        if row_id % LOOK_EVERY == 0:
            check(row_id)
        if row_id == MAX_READ:
            raise DataError(
                f"{name} has more than {MAX_READ:,} rows; prompts among them: {len(prompts):,}.",
                fix="Give a part of it.",
            )
        try:
            if isinstance(row, SkippedRow):
                raise RowSkipped(row.reason)
            prompt = _read_prompt(row_id, row, column)
        except RowSkipped as fault:
            left_out[str(fault)] += 1
            continue
        content = repr(prompt[1:])
        same = hashlib.blake2b(content.encode(), digest_size=16).digest()
        if same in seen:
            left_out["the same row again"] += 1
            continue
        seen.add(same)
        size += len(content)
        if size > MAX_TEXT or len(prompts) == MAX_ROWS:
            raise DataError(
                f"{name} has more than {MAX_ROWS:,} prompts, or more text than people can rate.",
                fix="Give a part of it.",
            )
        prompts.append(prompt)
    return PromptsFileContent(prompts, Counter(name for each in prompts for name in each.answers), left_out)


def _check_columns(reader: Reader, name: str, column: str) -> None:
    """Raise DataError if the columns are known in advance and none of them has prompts."""
    if reader.columns and not {column, "messages"} & set(reader.columns):
        raise DataError(
            f"{name} has no column prompt or messages; it has {', '.join(reader.columns[:20])}.",
            fix="Name the column of the prompts `prompt`.",
        )


def _read_prompt(row_id: int, row: FileRow, column: str) -> FilePrompt:
    turns, reference = split_prompt_and_answer(row, column)
    if "reference" in row and not _is_missing(row["reference"]):
        reference = format_value(row["reference"], "reference")
    answers: dict[str, str] = {}
    for name, answer in _read_answers(row):
        if name in answers:
            raise RowSkipped("it has two answers of one model")
        answers[name] = answer
    texts = [*(turn["content"] for turn in turns), *answers.values(), reference or ""]
    if sum(map(len, texts)) > MAX_CHARACTERS:
        raise RowSkipped(f"it has more than {MAX_CHARACTERS:,} characters")
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise RowSkipped("it contains an unpaired surrogate") from error
    return FilePrompt(row_id, turns, reference, answers)


def split_prompt_and_answer(row: FileRow, column: str) -> tuple[list[PromptTurn], str | None]:
    """Return the turns up to the answer to generate, and the answer that the row itself ends with."""
    if not _is_missing(row.get("messages")):
        turns = read_turns(row["messages"], "messages")
        reference = None
        while turns and turns[-1][0] == "assistant":
            reference = turns.pop()[1]
        if not any(role == "user" for role, _ in turns):
            raise RowSkipped("no turn by the user")
        return [{"role": role, "content": content} for role, content in turns], reference
    if _is_missing(row.get(column)):
        raise RowSkipped("it has no prompt")
    text = format_value(row[column], column)
    if not text.strip():
        raise RowSkipped("its prompt is empty")
    return [{"role": "user", "content": text}], None


def _read_answers(row: FileRow) -> Iterator[tuple[str, str]]:
    """Yield the model name and text of each answer.

    An empty answer counts, an empty table cell doesn't. Error messages don't name the model, as raters can
    read them.
    """
    for column, value in row.items():
        if column.startswith(ANSWER_PREFIX) and not _is_missing(value):
            yield _check_model_name(column.removeprefix(ANSWER_PREFIX)), format_value(value, "an answer")
    given = parse_texts(row.get("answers"))
    if _is_missing(given):
        return
    if isinstance(given, list):  # a Parquet map column
        given = dict(pair for pair in given if isinstance(pair, tuple) and len(pair) == 2)
    if not isinstance(given, dict):
        raise RowSkipped("answers is not an object with a text for each model")
    for name, value in given.items():
        if value is not None:
            yield _check_model_name(str(name)), format_value(value, "an answer")


def _check_model_name(name: str) -> str:
    name = name.strip()
    try:
        check_single_line(name)
        fits = 0 < len(name) <= MAX_NAME and bool(name.encode())
    except ValueError:
        fits = False
    if not fits:
        raise RowSkipped(f"a model's name is empty, not one line, or longer than {MAX_NAME} characters")
    return name


def _is_missing(value: object) -> bool:
    return value is None or value != value or value == "" or value == []
