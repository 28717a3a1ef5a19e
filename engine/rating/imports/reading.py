"""Read a file of imported ratings: detect its mapping from the first rows, then collect items and ratings.

Used by both the preview and the import. An item is a distinct prompt with at most one answer per model; a
second rating of the same pair by the same rater is left out unless its sides are swapped. Score values
become points in the same order.
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
from store.core.rating_schemas import Purpose, RatingAnswer, RatingCriterion
from store.rating.config import MAX_LABELS, MAX_POINTS, MIN_POINTS, ImportRound
from store.rating.rating_files import RATING_FORMS, RatingForm
from store.rating.schemas import UnusedColumn

MAX_VALUES = 1_000  # maximum number of values remembered per criterion


class Scales:
    """Values given for each criterion."""

    def __init__(self) -> None:
        self._values: dict[str, set[float]] = {}
        self._points: dict[str, dict[float, int]] = {}

    def add(self, scores: Mapping[str, float]) -> None:
        """Add the scores of one rating."""
        for name, value in scores.items():
            values = self._values.setdefault(name, set())
            if len(values) <= MAX_VALUES:
                values.add(value)

    def criteria(self) -> list[RatingCriterion]:
        """Return one criterion per column, with points from worst to best.

        Raises DataError (values, columns) if a criterion has too many points or only one.
        """
        self._points = {name: self._of(name, values) for name, values in self._values.items()}
        return [
            {"name": name, "question": "", "anchors": [f"{value:g}" for value in points]}
            for name, points in self._points.items()
        ]

    def points_of(self, scores: Mapping[str, float]) -> dict[str, int]:
        """Return the scores as rubric points; call after `criteria`."""
        return {name: self._points[name][value] for name, value in scores.items()}

    def _of(self, name: str, values: set[float]) -> dict[float, int]:
        """Return the point of each value, from 1.

        If all values are integers, unused integers from 0 or 1 up to the highest value get a point too.
        """
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
                fix=f"Map values to points, for example {same}, or round them in the file.",
                field="values",
            )
        if len(scale) < MIN_POINTS:
            raise DataError(
                f"{name} is {scale[0]:g} in all rows: a scale has {MIN_POINTS} points at least.",
                fix=f"Ignore it (--ignore {shlex.quote(name)}), or map another one.",
                field="columns",
            )
        return {value: point for point, value in enumerate(scale, 1)}


# If a model answered a prompt in two ways, these are two items. A second rating of the same pair by a rater
# is a repeat if the sides are swapped; otherwise the first is kept.

MAX_RATINGS = 1_000_000
MAX_MODELS = 1_000
MAX_RATERS = 100_000
MAX_CELLS = 10_000_000  # models times items, as an item has a slot for each model's answer
MAX_TEXT = 2**29  # characters of all prompts and answers
MERGED_ITEMS = 20  # items of the same prompt to which another answer may be added
DUPLICATE_RATING = "the same rater rated the same item before: the first rating is used"

PromptKey = tuple[tuple[str, str], ...]  # turns: role and content


@dataclass
class CollectedItem:
    """Prompt with the answers by model index."""

    prompt: PromptKey
    answers: dict[int, str] = field(default_factory=dict)


class CollectedRating(NamedTuple):
    """One rating; rubric scores become points only once all rows are read."""

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
    """Ratings read so far.

    merges: rows with the same prompt become one item. tells_raters: raters are known, so repeated ratings
    by a rater are detected.
    """

    def __init__(self, form: RatingForm, *, merges: bool, tells_raters: bool) -> None:
        self.form, self.merges, self.tells_raters = form, merges, tells_raters
        self.models: dict[str, int] = {}
        self.rated: Counter[str] = Counter()  # ratings by model
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
        """Assign indices to models, before any row does."""
        for name in models:
            self.models.setdefault(name, len(self.models))

    def add(self, row: RatedRow) -> None:
        """Add a row. Raises DataError if the file is too large."""
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
        """Return an item of the prompt for which these models have no other answer, or None."""
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
        """Return the answer in the form of a round."""
        if rating.verdict.answer is not None:
            return rating.verdict.answer
        return {"scores": self.scales.points_of(rating.verdict.scores)}


HEAD_ROWS = 500
LOOK_EVERY = 256  # rows between checks for cancellation
MAX_NAMED = 5  # maximum number of columns or values named in an error


class RatingsFile(NamedTuple):
    """How a file is read; `rows` iterates over the whole file once."""

    head: FileHead
    chosen: ColumnMapping
    meanings: ValueMeanings
    undecided: list[UnusedColumn]
    rows: Iterator[ReadRow]


def inspect_file(reader: Reader, config: ImportRound) -> RatingsFile:
    """Detect the mapping from the first rows.

    Raises DataError if no row can be read, and ConfigError for an invalid mapping.
    """
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
    """Raise DataError if something is missing or ambiguous, or would be silently ignored."""
    form, mapping, problem = file.chosen
    if problem:
        columns = ", ".join(file.head.columns[:20])
        roles = ", ".join((form or RATING_FORMS["votes"]).roles[:10])
        raise DataError(
            f"{problem} The file has {columns}.",
            fix=f"Map the columns: --column role=column, with the roles {roles} …, or the row format: --form"
            f" {', '.join(RATING_FORMS)}.",
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
            fix=f"Map each value ({means}), for example --value {example}.",
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
    use = f"Map them, for example {' or '.join(uses[:2])}. " if uses else ""
    return DataError(
        f"Nothing would be used of {which} that may matter: {named}{more}.",
        fix=f"{use}To leave {'it' if len(undecided) == 1 else 'them'} out on purpose: {left}.",
        field="ignore",
    )


def collect_ratings(
    file: RatingsFile, config: ImportRound, look: Callable[[int], bool] = lambda rows: True
) -> tuple[CollectedRatings, int, bool]:
    """Return all ratings, the number of rows read, and whether the whole file was read.

    `look` is called periodically with the number of rows and stops the reading by returning False. Raises
    DataError if the file is too large.
    """
    form, mapping = file.chosen.form, file.chosen.mapping
    if form is None:
        raise DataError("No row type detected.", fix="Select the row format.", field="form")
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
