"""Read a row of an imported ratings file: the prompt, the rated answers, and each rater's verdict.

A row that can't be used raises RowSkipped with a reason that is the same for all rows with that problem.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from engine.data.conversion.conversation_turns import (
    Turns,
    find_turn_keys,
    format_value,
    parse_texts,
    read_turns,
)
from engine.data.conversion.judged_answers import format_value_key
from engine.data.readers.file_rows import FileRow, RowSkipped, read_path
from engine.rating.imports.column_values import NO, YES, is_present
from engine.rating.imports.columns import MAX_NAME, parse_number
from engine.rating.training_rows import FURTHER_TURN, NOTE
from store.core.config import check_single_line
from store.core.rating_schemas import PairChoice, RatingAnswer
from store.data.formats import list_columns
from store.rating.rating_files import RatingForm

MAX_COMMENT = 10_000  # characters
MAX_LABEL = 200
MILLISECONDS = 1e11  # a timestamp above this is in milliseconds
SAME_MODEL = "both answers are of the same model"
CHOICES: Mapping[str, PairChoice] = {
    "first": {"choice": "A"},
    "second": {"choice": "B"},
    "tie": {"choice": "tie"},
    "both_bad": {"choice": "both_bad"},
}


class PromptAndAnswers(NamedTuple):
    """Turns of the prompt, and the rated texts in the order in which they were shown."""

    turns: Turns
    answers: tuple[str | None, ...]


class RowVerdict(NamedTuple):
    """Verdict of one rater; `scores` are raw values by criterion, before their points are known."""

    rater: str
    answer: RatingAnswer | None
    scores: Mapping[str, float]


class RatedRow(NamedTuple):
    """Parsed row.

    models: in the order in which they were shown. missing: reasons why verdict columns have no value.
    """

    asked: PromptAndAnswers
    models: tuple[str, ...]
    verdicts: list[RowVerdict]
    seconds: float
    time: datetime | None
    comment: str
    missing: list[str]


class RowReader:
    """Reader of rows by form, mapping and value meanings.

    sides: names of the models if no column has them. one_to_two: preferences range from 1 to 2.
    """

    def __init__(
        self,
        form: RatingForm,
        mapping: Mapping[str, str],
        values: Mapping[str, str],
        *,
        sides: tuple[str, str],
        separator: str | None,
        one_to_two: bool,
    ) -> None:
        self.form, self.mapping, self.values = form, mapping, values
        self.sides, self.separator, self.one_to_two = sides, separator, one_to_two
        self.deciding = list_columns(mapping, form.deciding)
        self._names: dict[Any, str] = {}
        self._answers = [mapping.get(role) for role in ("answer_a", "answer_b")]
        if form.name != "votes":
            self._answers = [mapping.get("answer")]
        self._say: Callable[[FileRow, int, tuple[str, ...]], Iterator[RowVerdict]] = {
            "votes": self._votes,
            "scores": self._scores,
            "passes": self._passes,
            "labels": self._labels,
        }[form.name]

    def read(self, number: int, row: FileRow) -> RatedRow:
        """Parse a row; `number` names it if it has no prompt. Raises RowSkipped."""
        models = self._models(row)
        verdicts = list(self._say(row, number, models))
        asked, comment = self._asked(number, row), self._comment(row)
        for text in (
            *(text for _, text in asked.turns),
            *asked.answers,
            *models,
            *_list_texts(verdicts),
            comment,
        ):
            if text and not text.isascii() and not _is_unicode(text):
                raise RowSkipped("a text contains an unpaired surrogate")
        seconds = parse_number(self._at(row, "seconds"))
        return RatedRow(
            asked,
            models,
            verdicts,
            seconds if seconds is not None and seconds >= 0 else math.nan,
            _parse_time(self._at(row, "time")),
            comment,
            self._missing(row),
        )

    def _at(self, row: FileRow, role: str) -> Any:
        column = self.mapping.get(role)
        return None if column is None else read_path(row, column)

    # -- models and raters

    def _models(self, row: FileRow) -> tuple[str, ...]:
        if self.form.name == "labels":
            return ()
        if self.form.name != "votes":
            return (self._name(row, "model"),) if "model" in self.mapping else self.sides[:1]
        if "models" in self.mapping:
            parts = str(self._at(row, "models") or "").split(self.separator or "\n")
            if len(parts) != 2:
                raise RowSkipped(f"{self.mapping['models']} does not name two models")
            pair = (self._checked(parts[0], "models"), self._checked(parts[1], "models"))
        elif "model_a" in self.mapping:
            pair = (self._name(row, "model_a"), self._name(row, "model_b"))
        else:
            return self.sides
        if pair[0] == pair[1]:
            raise RowSkipped(SAME_MODEL)
        return pair

    def _name(self, row: FileRow, role: str) -> str:
        value = self._at(row, role)
        if isinstance(value, str) and (earlier := self._names.get(value)):
            return earlier
        name = self._checked(format_value(value, self.mapping[role]), role)
        if isinstance(value, str):
            self._names[value] = name
        return name

    def _checked(self, name: str, role: str) -> str:
        column = self.mapping[role]
        name = name.strip()
        if not name:
            raise RowSkipped(f"{column} is empty")
        if len(name) > MAX_NAME:
            raise RowSkipped(f"{column} is longer than {MAX_NAME} characters")
        try:
            return check_single_line(name)
        except ValueError:
            raise RowSkipped(f"{column} is not one line of plain text") from None

    def _rater(self, row: FileRow, column: str) -> str:
        return self._name(row, "rater") if "rater" in self.mapping else column

    # -- verdicts

    def _missing(self, row: FileRow) -> list[str]:
        nouns = {"votes": "vote", "scores": "score", "passes": "verdict", "labels": "label"}
        missing = []
        for column in self.deciding:
            value = read_path(row, column)
            if not is_present(value):
                missing.append(f"{column} has no {nouns[self.form.name]}")
            elif self.values.get(format_value_key(value)) == "leave_out":
                missing.append(f"{column} is {str(value)[:30]!r}, which is left out on purpose")
        return missing

    def _votes(self, row: FileRow, number: int, models: tuple[str, ...]) -> Iterator[RowVerdict]:
        if "won_a" in self.mapping:
            yield RowVerdict(self._rater(row, "votes"), CHOICES[self._won(row)], {})
        elif soft := next((role for role in ("preference_a", "preference_b") if role in self.mapping), None):
            yield RowVerdict(self._rater(row, self.mapping[soft]), self._soft(row, soft), {})
        for column, value in self._given(row):
            meaning = self._meaning(value, column, models)
            if meaning != "leave_out":
                yield RowVerdict(self._rater(row, column), CHOICES[meaning], {})

    def _given(self, row: FileRow) -> Iterator[tuple[str, Any]]:
        for column in self.deciding:
            value = read_path(row, column)
            if is_present(value):
                yield column, value

    def _meaning(self, value: Any, column: str, models: tuple[str, ...]) -> str:
        key = format_value_key(value)
        meaning = self.values.get(key)
        if meaning is not None and meaning != "model":
            return meaning
        for side, name in zip(("first", "second"), models, strict=True):
            if key == format_value_key(name):
                return side
        raise RowSkipped(f"{column} is {str(value)[:30]!r}, which is not a vote")

    def _won(self, row: FileRow) -> str:
        won = []
        for role, side in (("won_a", "first"), ("won_b", "second"), ("won_tie", "tie")):
            key = format_value_key(self._at(row, role) if is_present(self._at(row, role)) else 0)
            if key not in YES | NO:
                raise RowSkipped(f"{self.mapping[role]} is {key[:30]!r}, neither yes nor no")
            won += [side] if key in YES else []
        if len(won) != 1:
            raise RowSkipped("no winner" if not won else "several winners")
        return won[0]

    def _soft(self, row: FileRow, role: str) -> PairChoice:
        column, value = self.mapping[role], self._at(row, role)
        if not is_present(value):
            raise RowSkipped(f"{column} has no vote")
        number = parse_number(value)
        if number is not None and self.one_to_two:
            number = 0.5 if number == 0 else number - 1  # 0 is a tie on this scale
        if number is None or not 0 <= number <= 1:
            raise RowSkipped(f"{column} is {str(value)[:30]!r}, which is not a preference from {self._scale}")
        preference = number if role == "preference_a" else 1 - number
        if preference in (0, 0.5, 1):
            return CHOICES["tie" if preference == 0.5 else "first" if preference else "second"]
        return {"choice": "A" if preference > 0.5 else "B", "preference": preference}

    @property
    def _scale(self) -> str:
        return "1 to 2" if self.one_to_two else "0 to 1"

    def _scores(self, row: FileRow, number: int, models: tuple[str, ...]) -> Iterator[RowVerdict]:
        scores: dict[str, float] = {}
        for column, value in self._given(row):
            point = parse_number(self.values.get(format_value_key(value), value))
            if point is None:
                raise RowSkipped(f"{column} is {str(value)[:30]!r}, which is not a number")
            scores[column] = point
        if scores:
            yield RowVerdict(self._rater(row, "all ratings"), None, scores)

    def _passes(self, row: FileRow, number: int, models: tuple[str, ...]) -> Iterator[RowVerdict]:
        for column, value in self._given(row):
            meaning = self.values.get(format_value_key(value))
            if meaning is None:
                raise RowSkipped(f"{column} is {str(value)[:30]!r}, neither pass nor fail")
            if meaning != "leave_out":
                reason = self._at(row, "reason")
                reasons = [str(reason)[:MAX_LABEL]] if meaning == "fail" and is_present(reason) else []
                yield RowVerdict(
                    self._rater(row, column), {"passed": meaning == "pass", "reasons": reasons}, {}
                )

    def _labels(self, row: FileRow, number: int, models: tuple[str, ...]) -> Iterator[RowVerdict]:
        for column, value in self._given(row):
            label = self.values.get(format_value_key(value)) or format_value(value, column).strip()
            if len(label) > MAX_LABEL:
                raise RowSkipped(f"{column} is longer than {MAX_LABEL} characters")
            yield RowVerdict(self._rater(row, column), {"label": label, "note": ""}, {})

    def _comment(self, row: FileRow) -> str:
        value = self._at(row, "comment")
        return str(value)[:MAX_COMMENT] if is_present(value) else ""

    # -- prompts and answers

    def _asked(self, number: int, row: FileRow) -> PromptAndAnswers:
        if self.form.name == "labels":
            return PromptAndAnswers([("user", format_value(self._at(row, "text"), self.mapping["text"]))], ())
        prompt = parse_texts(self._at(row, "prompt"))
        cells = [read_path(row, column) if column else None for column in self._answers]
        if isinstance(prompt, list) and all(isinstance(text, str) for text in prompt) and prompt:
            cells = [
                _interleave_turns(prompt, cell, column)
                for cell, column in zip(cells, self._answers, strict=True)
            ]
            prompt = "\n\n".join(prompt)
        if any(find_turn_keys(cell) for cell in cells):
            asked = _split_conversations([self._turns(row, cell) for cell in cells])
        else:
            texts = [
                None if cell is None else format_value(cell, column or "")
                for cell, column in zip(cells, self._answers, strict=True)
            ]
            asked = PromptAndAnswers(self._prompt(number, row, prompt), tuple(texts))
        system = self._at(row, "system")
        return asked._replace(turns=[("system", str(system)), *asked.turns]) if is_present(system) else asked

    def _turns(self, row: FileRow, cell: Any) -> Turns:
        turns = read_turns(cell, "an answer")
        until = parse_number(self._at(row, "turn"))
        if until is not None:
            ends = [place for place, (role, _) in enumerate(turns, 1) if role == "assistant"]
            if not 1 <= until <= len(ends) or until % 1:
                raise RowSkipped(f"{self.mapping['turn']} is {until:g}, which the conversation does not have")
            turns = turns[: ends[int(until) - 1]]
        return turns

    def _prompt(self, number: int, row: FileRow, prompt: Any) -> Turns:
        if find_turn_keys(prompt):
            return read_turns(prompt, self.mapping["prompt"])
        if is_present(prompt):
            text = format_value(prompt, self.mapping["prompt"])
            more = self._at(row, "input")
            return [
                (
                    "user",
                    f"{text}\n\n{format_value(more, self.mapping['input'])}" if is_present(more) else text,
                )
            ]
        if "prompt" in self.mapping:
            raise RowSkipped(f"{self.mapping['prompt']} is missing")
        if "prompt_id" in self.mapping:
            return [(NOTE, f"Prompt {format_value(self._at(row, 'prompt_id'), self.mapping['prompt_id'])}")]
        return [(NOTE, f"The prompt of row {number:,}, which the file does not have")]


def _list_texts(verdicts: Sequence[RowVerdict]) -> Iterator[str]:
    for each in verdicts:
        answer: Mapping[str, Any] = each.answer or {}
        yield each.rater
        yield from answer.get("reasons", ())
        yield answer.get("label", "")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _interleave_turns(prompts: Sequence[str], cell: Any, column: str | None) -> Any:
    """Combine lists of prompts and answers into one conversation; a single pair returns the answer's text."""
    answers = parse_texts(cell)
    if not isinstance(answers, list):
        return cell
    if len(answers) != len(prompts):
        raise RowSkipped(f"{column} has another number of answers than there are prompts")
    if len(prompts) == 1:
        return answers[0]
    turns = zip(prompts, answers, strict=True)
    return [
        {"role": role, "content": "" if text is None else text}
        for pair in turns
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def _split_conversations(conversations: Sequence[Turns]) -> PromptAndAnswers:
    """Split conversations into the shared prompt and each one's answer.

    If an answer has further turns, they are written out as text.
    """
    shared = 0
    shortest = min(map(len, conversations))
    while shared < shortest - 1 and len({tuple(turns[shared]) for turns in conversations}) == 1:
        shared += 1
    rests = [turns[shared:] for turns in conversations]
    if len(conversations) == 1:
        shared = len(conversations[0]) - 1
        rests = [conversations[0][-1:]]
    if not shared or any(rest[0][0] != "assistant" for rest in rests):
        raise RowSkipped("the two conversations do not begin with the same question")
    return PromptAndAnswers(conversations[0][:shared], tuple(map(_format_turns, rests)))


def _format_turns(turns: Turns) -> str:
    words = {"assistant": "Assistant", "user": "User"}
    first, *more = turns
    further = [
        f"{FURTHER_TURN if role == 'user' else f'{chr(10)}{chr(10)}{words.get(role, role)}: '}{text}"
        for role, text in more
    ]
    return first[1] + "".join(further)


def _parse_time(value: Any) -> datetime | None:
    """Parse ISO 8601 or seconds or milliseconds since 1970 as UTC; None if it isn't a time."""
    number = parse_number(value)
    try:
        if number is not None:
            seconds = number / 1000 if number > MILLISECONDS else number
            return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
    except (ValueError, OverflowError, OSError):
        return None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
