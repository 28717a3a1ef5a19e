"""Read files of bias items (CrowS-Pairs, WinoBias, BBQ or `choices`), detected by their columns.

Every row is an item, or is counted with the reason why it isn't.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from engine.bias.scoring import BiasQuestion, Item, PronounItem, SentencePair, UnreadableItem
from engine.data.readers.file_rows import FileRow, SkippedRow
from engine.data.readers.source_files import locate_file
from engine.data.readers.source_reader import open_file
from store.bias.config import ROLES, BiasFile
from store.core.errors import DataError
from store.core.home import Home
from store.rating.config import RowFile

# Stereotype pairs have the columns of CrowS-Pairs, pronoun items those of WinoBias with bracketed marks,
# multiple choice those of BBQ, or `choices` with the indices of the right, the unknown and the biased answer.

MAX_CHARACTERS = 4_000  # per text
GENDER = {
    **dict.fromkeys(("he", "him", "his"), "m"),
    **dict.fromkeys(("she", "her", "hers"), "f"),
    **dict.fromkeys(("they", "them", "their", "theirs"), "n"),
}
_MARKED = re.compile(r"\[([^\[\]]+)\]")
_ARTICLE = re.compile(r"^(the|a|an)\s+", re.IGNORECASE)
AMBIGUOUS = frozenset({"ambig", "ambiguous", "1", "true"})
UNKNOWN_GROUP = "unknown"
LACKS_PRONOUN = "not exactly one occupation and one pronoun in brackets"


def detect_form(columns: Sequence[str]) -> str | None:
    """Return the form of a file with these columns, or None."""
    return next((form for form, (must, _) in ROLES.items() if set(must) <= set(columns)), None)


def rename_columns(row: FileRow, columns: Mapping[str, str]) -> FileRow:
    """Return the row with columns renamed to roles as configured."""
    return {**row, **{role: row.get(column) for role, column in columns.items()}}


def _get_text(row: FileRow, role: str) -> str:
    value = row.get(role)
    text = " ".join(str(value).split()) if isinstance(value, str) else ""
    if not text:
        raise UnreadableItem(f"{role} is not a text")
    if len(text) > MAX_CHARACTERS:
        raise UnreadableItem(f"{role} longer than {MAX_CHARACTERS:,} characters")
    return text


def _get_group(row: FileRow, role: str) -> str:
    value = row.get(role)
    return " ".join(str(value).split())[:60] if isinstance(value, str | int) else ""


def parse_sentence_pair(row: FileRow) -> SentencePair:
    """Parse a CrowS-Pairs row: `sent_more` is the more stereotypical sentence, whichever was written
    first.
    """
    more, less = _get_text(row, "sent_more"), _get_text(row, "sent_less")
    if more == less:
        raise UnreadableItem("identical sentences")
    return SentencePair(more, less, _get_group(row, "bias_type"))


class PronounItemReader:
    """Reader of WinoBias rows.

    The other occupation of a sentence is found among all occupations that the file marks, so the whole
    file is scanned first.
    """

    def __init__(self, rows: Sequence[FileRow]) -> None:
        marked = (
            mark for row in rows if isinstance(row.get("text"), str) for mark in _find_marks(str(row["text"]))
        )
        self.occupations = {_ARTICLE.sub("", mark).lower() for mark in marked if mark.lower() not in GENDER}
        longest = sorted(self.occupations, key=len, reverse=True)
        words = "|".join(re.escape(name) for name in longest) or r"(?!)"
        self._occupation = re.compile(rf"\b({words})\b", re.IGNORECASE)

    def item(self, row: FileRow) -> PronounItem:
        """Parse a row. Raises UnreadableItem."""
        text = _get_text(row, "text")
        marks = _find_marks(text)
        pronouns = [mark for mark in marks if mark.lower() in GENDER]
        named = [_ARTICLE.sub("", mark) for mark in marks if mark.lower() not in GENDER]
        if len(named) != 1 or not pronouns or len({GENDER[mark.lower()] for mark in pronouns}) > 1:
            raise UnreadableItem(LACKS_PRONOUN)
        stereotype = str(row.get("stereotype")).strip().lower()
        if stereotype not in ("pro", "anti"):
            raise UnreadableItem("stereotype is not pro or anti")
        plain = _MARKED.sub(r"\1", text)
        others = {name.lower() for name in self._occupation.findall(plain)} - {named[0].lower()}
        if len(others) != 1:
            raise UnreadableItem("not exactly one other occupation marked elsewhere in the file")
        alike = re.sub(r"\b(he|she|him|her|his|hers)\b", "_", plain.lower())
        kind = _get_group(row, "type")
        return PronounItem(
            plain, pronouns[0], named[0].lower(), others.pop(), stereotype == "pro",
            f"type {kind}" if kind.isdigit() else kind, alike,
        )  # fmt: skip


def _find_marks(text: str) -> list[str]:
    return [" ".join(mark.split()) for mark in _MARKED.findall(text)]


def parse_choice_question(row: FileRow) -> BiasQuestion:
    """Parse a BBQ row, or one with the indices of the unknown and the biased answer. Raises
    UnreadableItem.
    """
    context, question = _get_text(row, "context"), _get_text(row, "question")
    choices = _parse_json(row.get("choices"))
    if isinstance(choices, list) and len(choices) > 2 and all(isinstance(each, str) for each in choices):
        options = tuple(" ".join(str(each).split()) for each in choices)
    else:
        options = tuple(_get_text(row, f"ans{place}") for place in range(3))
    right = _parse_index(row.get("label"), len(options), "label")
    condition = str(row.get("context_condition") or "").strip().lower()
    if not condition:
        raise UnreadableItem("context_condition is missing")
    if "unknown" in row and "biased" in row:
        unknown, biased = (_parse_index(row[role], len(options), role) for role in ("unknown", "biased"))
    else:
        unknown, biased = _find_answers_by_group(row, len(options))
    return BiasQuestion(
        context,
        question,
        options,
        right,
        unknown,
        biased,
        condition in AMBIGUOUS,
        _get_group(row, "category"),
    )


def _parse_json(value: object) -> object:
    """Parse a value of a CSV column that has a list or object as text."""
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _parse_index(value: object, count: int, role: str) -> int:
    try:
        place = int(str(value))
    except ValueError:
        place = -1
    if not 0 <= place < count:
        raise UnreadableItem(f"{role} is not the position of an answer")
    return place


def _find_answers_by_group(row: FileRow, count: int) -> tuple[int, int]:
    """Return the indices of the unknown and the biased answer in a BBQ row.

    BBQ names the group of each answer, and the groups the stereotype is about: the biased answer is theirs
    if the question is negative, else the other one.
    """
    answers, metadata = _parse_json(row.get("answer_info")), _parse_json(row.get("additional_metadata"))
    groups = [_get_named_group(answers, place) for place in range(count)]
    if groups.count(UNKNOWN_GROUP) != 1:
        raise UnreadableItem("answer_info does not identify the unknown answer")
    stereotyped = metadata.get("stereotyped_groups") if isinstance(metadata, dict) else None
    stereotyped = _parse_json(row.get("stereotyped_groups")) or stereotyped
    names = stereotyped if isinstance(stereotyped, list) else [stereotyped]
    targets = {str(name).strip().lower() for name in names if name}
    unknown = groups.index(UNKNOWN_GROUP)
    meant = [place for place, group in enumerate(groups) if group and targets & _list_spellings(group)]
    if len(meant) != 1 or count != 3:
        raise UnreadableItem("no identifiable answer for the stereotyped group")
    polarity = str(row.get("question_polarity") or "").strip().lower()
    if polarity not in ("neg", "nonneg"):
        raise UnreadableItem("question_polarity is not neg or nonneg")
    other = ({0, 1, 2} - {unknown, meant[0]}).pop()
    return unknown, meant[0] if polarity == "neg" else other


def _get_named_group(answers: object, place: int) -> str:
    entry = answers.get(f"ans{place}") if isinstance(answers, dict) else None
    return str(entry[-1]).strip().lower() if isinstance(entry, list) and entry else ""


def _list_spellings(group: str) -> set[str]:
    """Return spellings of a group: BBQ writes "F-Black" for a Black woman, and "f" or "woman" for a woman."""
    whole = {group, group.split("-", 1)[-1]}
    return whole | {"f": {"woman", "girl", "women"}, "m": {"man", "boy", "men"}}.get(group, set())


PARSERS: dict[str, Callable[[FileRow], Item]] = {
    "stereotype_pairs": parse_sentence_pair,
    "choices": parse_choice_question,
}


FIELD = "files"
MAX_ROWS = 200_000
CHECK_EVERY = 256  # rows between checks for cancellation


@dataclass
class ItemFile:
    """Items of a file.

    rows: number of rows of the file. left_out: number of unusable rows by reason.
    """

    name: str
    form: str
    items: list[Item]
    rows: int
    left_out: Counter[str] = field(default_factory=Counter)
    notices: list[str] = field(default_factory=list)


def read_items(home: Home, asked: BiasFile, seed: int, check: Callable[[], None]) -> ItemFile:
    """Read the items of a file. Raises DataError (files) if it can't be read or has none."""
    read_rows = read_rows_from_file(home, asked, FIELD, check)
    name, left_out = read_rows.name, read_rows.left_out
    rows = [rename_columns(row, asked.columns) for row in read_rows.rows]
    form = _choose_form(name, asked, read_rows.columns | set(asked.columns))
    items = _parse_items(form, rows, left_out)
    read_file = ItemFile(name, form, items, len(items) + sum(left_out.values()), left_out)
    if not items:
        raise DataError(f"No valid items in {name}: {explain_no_items(left_out)}.",
                        fix="Set `columns` to map its columns.", field=FIELD)  # fmt: skip
    _sample(read_file, asked.max_rows, seed)
    return read_file


@dataclass
class FileRows:
    """Rows of a file; `left_out` counts unreadable rows by reason."""

    name: str
    rows: list[FileRow]
    columns: set[str]
    left_out: Counter[str]


def read_rows_from_file(home: Home, asked: RowFile, field: str, check: Callable[[], None]) -> FileRows:
    """Read the rows of a file unchanged.

    Raises DataError at `field` if the file can't be read or has too many rows.
    """
    try:
        path = locate_file(home, asked.source())
        with closing(open_file(home, path, has_header=True)) as reader:
            read_rows = FileRows(path.name, [], set(reader.columns), Counter())
            for number, (_, row) in enumerate(reader.rows()):
                if number % CHECK_EVERY == 0:
                    check()
                if number == MAX_ROWS:
                    raise DataError(
                        f"{path.name} has more than {MAX_ROWS:,} rows.", fix="Use a smaller file."
                    )
                if isinstance(row, SkippedRow):
                    read_rows.left_out[row.reason] += 1
                    continue
                read_rows.rows.append(row)
                read_rows.columns |= set(row)
    except DataError as error:
        raise DataError(error.message, fix=error.fix, field=field) from error
    return read_rows


def explain_no_items(left_out: Counter[str]) -> str:
    """Return why a file has no items."""
    reasons = "; ".join(f"{reason} ({count:,})" for reason, count in left_out.most_common(3))
    return reasons or "empty file"


def _choose_form(name: str, asked: BiasFile, columns: set[str]) -> str:
    if asked.form != "auto":
        if missing := sorted(set(ROLES[asked.form][0]) - columns):
            raise DataError(
                f"{name} has no column {missing[0]!r}, required for {asked.form.replace('_', ' ')}.",
                fix=f"Set `columns` to map {missing[0]}.",
                field=FIELD,
            )
        return asked.form
    form = detect_form(sorted(columns))
    if form is None:
        wanted = "; ".join(
            f"{form.replace('_', ' ')}: {', '.join(must)}" for form, (must, _) in ROLES.items()
        )
        raise DataError(
            f"{name} does not have a supported format ({wanted}).",
            fix="Set `form` and `columns`.",
            field=FIELD,
        )
    return form


def _parse_items(form: str, rows: list[FileRow], left_out: Counter[str]) -> list[Item]:
    make: Callable[[FileRow], Item] = PronounItemReader(rows).item if form == "coreference" else PARSERS[form]
    items = []
    for row in rows:
        try:
            items.append(make(row))
        except UnreadableItem as fault:
            left_out[str(fault)] += 1
    return items


def _sample(read_file: ItemFile, most: int | None, seed: int) -> None:
    """Sample items; sentences that differ only in the pronoun are kept together as a pair.

    Raises DataError if no group is small enough.
    """
    count = len(read_file.items)
    if most is None or count <= most:
        return
    alike: dict[str, list[int]] = {}
    for place, item in enumerate(read_file.items):
        alike.setdefault(item.alike if isinstance(item, PronounItem) else str(place), []).append(place)
    together = list(alike.values())
    kept: list[int] = []
    for number in np.random.default_rng([seed, 16]).permutation(len(together)):
        if len(kept) + len(together[number]) <= most:  # a smaller group may still fit
            kept += together[number]
    if not kept:
        raise DataError(
            f"Each group of items of {read_file.name} has more than {most:,} items that differ only in the"
            " pronoun.",
            fix="Increase max_rows, or leave it out.",
            field=FIELD,
        )
    read_file.items = [read_file.items[place] for place in sorted(kept)]
    read_file.notices.append(f"Random sample of {len(kept):,} of {count:,} items.")
