"""A file of ratings from elsewhere, read: understood from its first rows, its items and ratings
collected, and noticed.

The same for the look beforehand and the import. An item is a distinct prompt with one answer of each
model at most; a second rating of the same is left out unless its sides are swapped. Points of scores keep
their order.
"""

from __future__ import annotations

import itertools
import secrets
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from engine.data.readers.file_rows import (
    Reader,
    ReadRow,
    RowSkipped,
    SkippedRow,
    add_paths,
    list_column_names,
    list_paths,
    list_values,
    read_first,
    read_path,
)
from engine.rating.imports.column_values import ValueMeanings, find_meanings, find_undecided
from engine.rating.imports.columns import (
    ColumnMapping,
    FileHead,
    choose_columns,
    find_separator,
    parse_number,
)
from engine.rating.imports.rows import PromptAndAnswers, RatedRow, RowReader, RowVerdict
from store.core.errors import DataError
from store.core.formatting import plural
from store.core.rating_schemas import Purpose, RatingAnswer, RatingCriterion
from store.rating.config import MAX_LABELS, MAX_POINTS, MIN_POINTS, ImportRound
from store.rating.rating_files import RATING_FORMS, RatingForm
from store.rating.schemas import UnusedColumn

MAX_VALUES = 1_000  # that are remembered to be counted


class Scales:
    """The values that each criterion was given."""

    def __init__(self) -> None:
        self._values: dict[str, set[float]] = {}
        self._points: dict[str, dict[float, int]] = {}

    def add(self, scores: Mapping[str, float]) -> None:
        """Take in one rating."""
        for name, value in scores.items():
            values = self._values.setdefault(name, set())
            if len(values) <= MAX_VALUES:
                values.add(value)

    def criteria(self) -> list[RatingCriterion]:
        """A criterion of each column, its points from worst to best. Raises DataError (values) where one has
        too many points, or a single one."""
        self._points = {name: self._of(name, values) for name, values in self._values.items()}
        return [
            {"name": name, "question": "", "anchors": [f"{value:g}" for value in points]}
            for name, points in self._points.items()
        ]

    def points_of(self, scores: Mapping[str, float]) -> dict[str, int]:
        """As a rubric has them, after `criteria`."""
        return {name: self._points[name][value] for name, value in scores.items()}

    def _of(self, name: str, values: set[float]) -> dict[float, int]:
        """Value -> point, from 1. Whole numbers from 0 or 1 have the points that nobody gave, too."""
        top = max(values)
        scale = sorted(values)
        if all(value % 1 == 0 for value in values) and min(values) >= 0:
            start = 0 if 0 in values else 1
            if MIN_POINTS <= top - start + 1 <= MAX_POINTS:
                scale = [float(value) for value in range(start, int(top) + 1)]
        if len(scale) > MAX_POINTS:
            lowest = ", ".join(f"{value:g}" for value in scale[:4])
            same = f"--value {scale[0]:g}={scale[1]:g}"
            raise DataError(
                f"{name} has {len(scale):,} values ({lowest} …), and a scale {MAX_POINTS} points at most.",
                fix=f"Say which values are one point, such as {same}, or round them in the file.",
                field="values",
            )
        if len(scale) < MIN_POINTS:
            raise DataError(
                f"{name} is {scale[0]:g} in all rows: a scale has {MIN_POINTS} points at least.",
                fix=f"Ignore it (--ignore {shlex.quote(name)}), or map another one.",
                field="columns",
            )
        return {value: point for point, value in enumerate(scale, 1)}


# The rows of a file of ratings put together: prompts with the answers of their models, and the ratings.
#
# An item is a distinct prompt, with one answer of each model at most: where a model answered a prompt in two
# ways, these are two items. A rater who rates the same again with sides swapped is a repeat; any other second
# rating of the same is left out, and the first kept.

MAX_RATINGS = 1_000_000
MAX_MODELS = 1_000
MAX_RATERS = 100_000
MAX_CELLS = 10_000_000  # models times items: an item has a place for each model's answer
MAX_TEXT = 2**29  # characters of all prompts and answers
MERGED_ITEMS = 20  # items of the same prompt to which another answer may be added
DUPLICATE_RATING = "the same rater had rated the same before: the first rating is kept"

PromptKey = tuple[tuple[str, str], ...]  # turns: role and content


@dataclass
class CollectedItem:
    """A prompt. answers: by the place of the model."""

    prompt: PromptKey
    answers: dict[int, str] = field(default_factory=dict)


class CollectedRating(NamedTuple):
    """One rating; scores: of a rubric, whose points are known at the end."""

    task_id: str
    item_id: int
    rater: str
    place: int
    systems: tuple[int, ...]
    purpose: Purpose
    repeat_of: str | None
    verdict: RowVerdict
    seconds: float
    time: datetime | None
    comment: str


class CollectedRatings:
    """What was read so far. merges: rows with the same prompt are one item; tells_raters: a second
    rating by a rater of the same is noticed."""

    def __init__(self, form: RatingForm, *, merges: bool, tells_raters: bool) -> None:
        self.form, self.merges, self.tells_raters = form, merges, tells_raters
        self.models: dict[str, int] = {}
        self.rated: Counter[str] = Counter()  # by model
        self.raters: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.scales = Scales()
        self.items: list[CollectedItem] = []
        self.ratings: list[CollectedRating] = []
        self.reasons: Counter[str] = Counter()
        self.soft = self.repeats = 0
        self._by_prompt: dict[PromptKey, list[int]] = {}
        self._by_answers: dict[tuple[PromptKey, tuple[int, ...], tuple[str | None, ...]], int] = {}
        self._seen: dict[tuple[str, int, tuple[int, ...]], tuple[str, tuple[int, ...]]] = {}
        self._text = 0

    def name(self, models: Sequence[str]) -> None:
        """Give models their places, before any row does."""
        for name in models:
            self.models.setdefault(name, len(self.models))

    def add(self, row: RatedRow) -> None:
        """Take a row in. Raises DataError where the file is too large."""
        self.reasons.update(row.missing)
        if not row.verdicts:
            return
        self.name(row.models)
        systems = tuple(self.models[name] for name in row.models)
        item_id = self._item_of(row.asked, systems)
        kept = sum(self._keep(item_id, systems, verdict, row) for verdict in row.verdicts)
        for name in row.models:
            self.rated[name] += kept
        self._check_size()

    def _item_of(self, asked: PromptAndAnswers, systems: tuple[int, ...]) -> int:
        prompt = tuple(asked.turns)
        key = (prompt, systems, asked.answers)
        if self.merges and (earlier_id := self._by_answers.get(key)) is not None:
            return earlier_id
        item_id = self._open_item(prompt, asked, systems) if self.merges else None
        if item_id is None:
            item_id = len(self.items)
            self.items.append(CollectedItem(prompt))
            self._by_prompt.setdefault(prompt, []).append(item_id)
            self._text += sum(len(text) for _, text in prompt)
        answers = self.items[item_id].answers
        for place, answer in zip(systems, asked.answers, strict=False):
            if answer is not None and place not in answers:
                answers[place] = answer
                self._text += len(answer)
        self._by_answers[key] = item_id
        return item_id

    def _open_item(self, prompt: PromptKey, asked: PromptAndAnswers, systems: tuple[int, ...]) -> int | None:
        """An item of the prompt in which these models have no other answer."""
        for item_id in self._by_prompt.get(prompt, ())[-MERGED_ITEMS:]:
            answers = self.items[item_id].answers
            pairs = zip(systems, asked.answers, strict=False)
            if all(answer is None or answers.get(place, answer) == answer for place, answer in pairs):
                return item_id
        return None

    def _keep(self, item_id: int, systems: tuple[int, ...], verdict: RowVerdict, row: RatedRow) -> bool:
        purpose: Purpose = "first"
        repeat_of = None
        key = (verdict.rater, item_id, tuple(sorted(systems)))
        task_id = secrets.token_urlsafe(12)
        if self.tells_raters and (before := self._seen.get(key)):
            if before[1] == systems:
                self.reasons[DUPLICATE_RATING] += 1
                return False
            purpose, repeat_of = "repeat", before[0]
            self.repeats += 1
        self._seen[key] = (task_id, systems)
        if "label" in (verdict.answer or {}):
            self.labels[str(verdict.answer["label"])] += 1  # type: ignore[index,typeddict-item]
        self.soft += "preference" in (verdict.answer or {})
        self.scales.add(verdict.scores)
        self.ratings.append(
            CollectedRating(
                *(task_id, item_id, verdict.rater, self.raters[verdict.rater], systems, purpose, repeat_of),
                *(verdict, row.seconds, row.time, row.comment),
            )
        )
        self.raters[verdict.rater] += 1
        return True

    def _check_size(self) -> None:
        for count, most, what in (
            (len(self.models), MAX_MODELS, "models"),
            (len(self.raters), MAX_RATERS, "raters"),
            (len(self.ratings), MAX_RATINGS, "ratings"),
            (len(self.items) * len(self.models), MAX_CELLS, "models times prompts"),
            (self._text, MAX_TEXT, "characters of prompts and answers"),
            (len(self.labels), MAX_LABELS, "labels"),
        ):
            if count > most:
                raise DataError(
                    f"The file has more than {most:,} {what}.",
                    fix="Give a part of it, or map another column.",
                    field="columns",
                )

    def answer_of(self, rating: CollectedRating) -> RatingAnswer:
        """As a round has it. Raises DataError where scores have more points than a rubric."""
        if rating.verdict.answer is not None:
            return rating.verdict.answer
        return {"scores": self.scales.points_of(rating.verdict.scores)}


HEAD_ROWS = 500
LOOK_EVERY = 256  # rows between two looks at a request to stop
MAX_NAMED = 5  # columns or values that an error names


class RatingsFile(NamedTuple):
    """How a file is read. rows: all of it, once."""

    head: FileHead
    chosen: ColumnMapping
    meanings: ValueMeanings
    undecided: list[UnusedColumn]
    rows: Iterator[ReadRow]


def inspect_file(reader: Reader, config: ImportRound) -> RatingsFile:
    """What the first rows show. Raises DataError where none can be read, ConfigError for a mapping
    that can't be."""
    rows = reader.rows()
    first = read_first(rows, HEAD_ROWS)
    if not any(isinstance(row, dict) for _, row in first):
        raise DataError(
            "No row of the file could be read.", fix="Give JSON, JSONL, CSV or Parquet.", field="path"
        )
    own = [row for _, row in first if isinstance(row, dict)]
    columns = list_column_names(reader.columns, own)
    paths = list_paths(columns, own)
    head = FileHead([*columns, *paths], [add_paths(row, paths) for row in own] if paths else own)
    chosen = choose_columns(head, config)
    meanings = find_meanings(chosen, head.rows, config)
    undecided: list[UnusedColumn] = []
    if chosen.form and not chosen.problem:
        undecided = find_undecided(head._replace(columns=columns), chosen.form, chosen.mapping, config.ignore)
    return RatingsFile(head, chosen, meanings, undecided, itertools.chain(first, rows))


def refuse_open_questions(file: RatingsFile) -> None:
    """Raise DataError where something is missing, unclear, or would be left out without a word."""
    form, mapping, problem = file.chosen
    if problem:
        columns = ", ".join(file.head.columns[:20])
        roles = ", ".join((form or RATING_FORMS["votes"]).roles[:10])
        raise DataError(
            f"{problem} The file has {columns}.",
            fix=f"Say which column is what: --column role=column, with the roles {roles} …, or what a row is:"
            f" --form {', '.join(RATING_FORMS)}.",
            field="columns",
        )
    if file.meanings.unclear and form:
        values = ", ".join(
            f"{value!r} ({rows:,})" for value, rows in file.meanings.unclear.most_common(MAX_NAMED)
        )
        first = next(iter(file.meanings.unclear))
        means = " or ".join(form.meanings) or "a number"
        example = shlex.quote(f"{first}={(*form.meanings, 3)[0]}")
        raise DataError(
            f"It is not clear what these values of {mapping.get(form.deciding)} mean: {values}.",
            fix=f"Say what each means ({means}), such as --value {example}.",
            field="values",
        )
    if file.undecided:
        raise _build_undecided_error(file.undecided)


def _build_undecided_error(undecided: Sequence[UnusedColumn]) -> DataError:
    named = "; ".join(
        f"{column.name!r} ({', '.join(column.values)}) {column.why}" for column in undecided[:MAX_NAMED]
    )
    more = f", and {len(undecided) - MAX_NAMED} more" if len(undecided) > MAX_NAMED else ""
    uses = [
        f"--column {shlex.quote('='.join((role, column.name)))}"
        for column in undecided
        for role in column.roles[:2]
    ]
    left = " ".join(f"--ignore {shlex.quote(column.name)}" for column in undecided)
    which = "a column" if len(undecided) == 1 else "columns"
    use = f"Say how they are used, such as {' or '.join(uses[:2])}. " if uses else ""
    return DataError(
        f"Nothing would be used of {which} that may matter: {named}{more}.",
        fix=f"{use}To leave {'it' if len(undecided) == 1 else 'them'} out on purpose: {left}.",
        field="ignore",
    )


def collect_ratings(
    file: RatingsFile, config: ImportRound, look: Callable[[int], bool] = lambda rows: True
) -> tuple[CollectedRatings, int, bool]:
    """All ratings, the rows that were read, and whether these are all. look: called with the number of rows
    now and then; where it says no, reading ends there. Raises DataError where the file is too large."""
    form, mapping = file.chosen.form, file.chosen.mapping
    if form is None:
        raise DataError("No kind of ratings was recognised.", fix="Say what a row is.", field="form")
    reader = _build_row_reader(file, config)
    single = {"model_a", "models", "rater"} & set(mapping) or form.name in ("scores", "passes", "labels")
    collected = CollectedRatings(
        form,
        merges=(bool(single) and len(reader.deciding) < 2) or "model" in mapping,
        tells_raters="rater" in mapping,
    )
    if form.name == "votes" and not {"model_a", "models"} & set(mapping):
        collected.name(reader.sides)
    paths = [column for column in mapping.values() if "." in column]
    number = 0
    for number, (_, row) in enumerate(file.rows, 1):
        if number % LOOK_EVERY == 0 and not look(number):
            return collected, number, False
        try:
            if isinstance(row, SkippedRow):
                raise RowSkipped(row.reason)
            collected.add(reader.read(number, add_paths(row, paths) if paths else row))
        except RowSkipped as fault:
            collected.reasons[str(fault)] += 1
    return collected, number, True


def _build_row_reader(file: RatingsFile, config: ImportRound) -> RowReader:
    form, mapping = file.chosen.form, file.chosen.mapping
    rows = file.head.rows
    sides = (
        config.first or mapping.get("answer_a") or mapping.get("answer") or "first answer",
        config.second or mapping.get("answer_b") or "second answer",
    )
    separator = find_separator(list_values(rows, mapping["models"])) if "models" in mapping else None
    soft = (
        [parse_number(read_path(row, mapping["preference_b"])) for row in rows]
        if "preference_b" in mapping
        else []
    )
    return RowReader(
        form or RATING_FORMS["votes"],
        mapping,
        file.meanings.values,
        sides=sides,
        separator=separator,
        one_to_two=any(number is not None and number > 1 for number in soft),
    )


MIN_RATINGS = 10  # of a model, under which its figures say little
MAX_NAMED_MODELS, MAX_REASONS = 3, 20
NOUNS = {"votes": "vote", "scores": "rated answer", "passes": "rated answer", "labels": "label"}


def list_notices(collected: CollectedRatings) -> list[str]:
    """For the round, and for the look at its file."""
    parts = [plural(len(collected.ratings), NOUNS[collected.form.name])]
    if collected.form.name != "labels":
        parts.append(plural(len(collected.models), "model"))
    parts += [plural(len(collected.raters), "rater"), plural(len(collected.items), "prompt")]
    notices = [", ".join(parts) + "."]
    if collected.soft:
        notices.append(f"{plural(collected.soft, 'vote')} are soft: a preference between the two answers.")
    if collected.repeats:
        notices.append(
            f"{plural(collected.repeats, 'vote')} show a pair to its rater again, sides swapped: they say"
            " how steady a rater is, and count in no other figure."
        )
    if not collected.tells_raters and len(collected.raters) == 1 and collected.ratings:
        notices.append(
            "No column says who rated: all ratings count as of one rater, so agreement can't be determined."
        )
    elif len(collected.raters) == 1:
        notices.append("There is one rater: agreement between raters can't be determined.")
    few = [name for name, count in collected.rated.items() if count < MIN_RATINGS]
    if few:
        named = ", ".join(few[:MAX_NAMED_MODELS]) + (
            f" and {len(few) - MAX_NAMED_MODELS} more" if len(few) > MAX_NAMED_MODELS else ""
        )
        notices.append(f"Fewer than {MIN_RATINGS} ratings each have {named}.")
    return notices + [
        f"Left out {count:,} times: {reason}." for reason, count in collected.reasons.most_common(MAX_REASONS)
    ]
