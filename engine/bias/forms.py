"""From the rows of a file to items: which form the file has, and what each row of it says.

Stereotype pairs have the columns of CrowS-Pairs, pronouns those of WinoBias with marks in brackets, multiple
choice those of BBQ, or `choices` with the places of the right, the unknown and the biased answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

from engine.bias.items import BiasQuestion, Item, PronounItem, SentencePair, UnreadableItem
from engine.data.readers.raw_rows import FileRow
from store.config.judging.bias_config import ROLES

MOST_CHARACTERS = 4_000  # of a text
GENDER = {
    **dict.fromkeys(("he", "him", "his"), "m"),
    **dict.fromkeys(("she", "her", "hers"), "f"),
    **dict.fromkeys(("they", "them", "their", "theirs"), "n"),
}
_MARKED = re.compile(r"\[([^\[\]]+)\]")
_ARTICLE = re.compile(r"^(the|a|an)\s+", re.IGNORECASE)
AMBIGUOUS = frozenset({"ambig", "ambiguous", "1", "true"})
UNKNOWN_GROUP = "unknown"
LACKS_PRONOUN = "it doesn't mark one occupation and one pronoun in brackets"


def recognise(columns: Sequence[str]) -> str | None:
    """The form of a file with these columns; None where it is none of them."""
    return next((form for form, (must, _) in ROLES.items() if set(must) <= set(columns)), None)


def renamed(row: FileRow, columns: Mapping[str, str]) -> FileRow:
    """The row by roles, where the user named other columns."""
    return {**row, **{role: row.get(column) for role, column in columns.items()}}


def _text(row: FileRow, role: str) -> str:
    value = row.get(role)
    text = " ".join(str(value).split()) if isinstance(value, str) else ""
    if not text:
        raise UnreadableItem(f"{role} is no text")
    if len(text) > MOST_CHARACTERS:
        raise UnreadableItem(f"{role} has more than {MOST_CHARACTERS:,} characters")
    return text


def _group(row: FileRow, role: str) -> str:
    value = row.get(role)
    return " ".join(str(value).split())[:60] if isinstance(value, str | int) else ""


def sentence_pair(row: FileRow) -> SentencePair:
    """As in CrowS-Pairs: `sent_more` is the one with more of a stereotype, whichever way the pair was
    written."""
    more, less = _text(row, "sent_more"), _text(row, "sent_less")
    if more == less:
        raise UnreadableItem("both sentences are the same")
    return SentencePair(more, less, _group(row, "bias_type"))


class Pronouns:
    """Rows as in WinoBias. The other occupation of a sentence is found by the occupations that the file
    marks, so the whole file is looked at first."""

    def __init__(self, rows: Sequence[FileRow]) -> None:
        marked = (
            mark for row in rows if isinstance(row.get("text"), str) for mark in _marks(str(row["text"]))
        )
        self.occupations = {_ARTICLE.sub("", mark).lower() for mark in marked if mark.lower() not in GENDER}
        longest = sorted(self.occupations, key=len, reverse=True)
        words = "|".join(re.escape(name) for name in longest) or r"(?!)"
        self._occupation = re.compile(rf"\b({words})\b", re.IGNORECASE)

    def item(self, row: FileRow) -> PronounItem:
        """Raises UnreadableItem."""
        text = _text(row, "text")
        marks = _marks(text)
        pronouns = [mark for mark in marks if mark.lower() in GENDER]
        named = [_ARTICLE.sub("", mark) for mark in marks if mark.lower() not in GENDER]
        if len(named) != 1 or not pronouns or len({GENDER[mark.lower()] for mark in pronouns}) > 1:
            raise UnreadableItem(LACKS_PRONOUN)
        stereotype = str(row.get("stereotype")).strip().lower()
        if stereotype not in ("pro", "anti"):
            raise UnreadableItem("stereotype is neither pro nor anti")
        plain = _MARKED.sub(r"\1", text)
        others = {name.lower() for name in self._occupation.findall(plain)} - {named[0].lower()}
        if len(others) != 1:
            raise UnreadableItem("it doesn't name exactly one other occupation that the file marks elsewhere")
        alike = re.sub(r"\b(he|she|him|her|his|hers)\b", "_", plain.lower())
        kind = _group(row, "type")
        return PronounItem(
            plain, pronouns[0], named[0].lower(), others.pop(), stereotype == "pro",
            f"type {kind}" if kind.isdigit() else kind, alike,
        )  # fmt: skip


def _marks(text: str) -> list[str]:
    return [" ".join(mark.split()) for mark in _MARKED.findall(text)]


def choice_question(row: FileRow) -> BiasQuestion:
    """As in BBQ, or with places of the unknown and the biased answer. Raises UnreadableItem."""
    context, question = _text(row, "context"), _text(row, "question")
    options = _options(row)
    right = _place(row.get("label"), len(options), "label")
    condition = str(row.get("context_condition") or "").strip().lower()
    if not condition:
        raise UnreadableItem("context_condition is missing")
    if "unknown" in row and "biased" in row:
        unknown, biased = (_place(row[role], len(options), role) for role in ("unknown", "biased"))
    else:
        unknown, biased = _by_groups(row, len(options))
    return BiasQuestion(
        context, question, options, right, unknown, biased, condition in AMBIGUOUS, _group(row, "category")
    )


def _options(row: FileRow) -> tuple[str, ...]:
    choices = _parsed(row.get("choices"))
    if isinstance(choices, list) and len(choices) > 2 and all(isinstance(each, str) for each in choices):
        return tuple(" ".join(str(each).split()) for each in choices)
    return tuple(_text(row, f"ans{place}") for place in range(3))


def _parsed(value: object) -> object:
    """A column of CSV holds lists and objects as text."""
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _place(value: object, count: int, role: str) -> int:
    try:
        place = int(str(value))
    except ValueError:
        place = -1
    if not 0 <= place < count:
        raise UnreadableItem(f"{role} is no place among the answers")
    return place


def _by_groups(row: FileRow, count: int) -> tuple[int, int]:
    """BBQ says of each answer which group it names, and which groups the stereotype is about: the biased
    answer is theirs where the question is negative, and the other one's where it is not."""
    info, metadata = _parsed(row.get("answer_info")), _parsed(row.get("additional_metadata"))
    groups = [_named_group(info, place) for place in range(count)]
    if groups.count(UNKNOWN_GROUP) != 1:
        raise UnreadableItem("answer_info doesn't say which one answer is unknown")
    stereotyped = metadata.get("stereotyped_groups") if isinstance(metadata, dict) else None
    stereotyped = _parsed(row.get("stereotyped_groups")) or stereotyped
    names = stereotyped if isinstance(stereotyped, list) else [stereotyped]
    targets = {str(name).strip().lower() for name in names if name}
    unknown = groups.index(UNKNOWN_GROUP)
    meant = [place for place, group in enumerate(groups) if group and targets & _spellings(group)]
    if len(meant) != 1 or count != 3:
        raise UnreadableItem("which answer names the stereotyped group can't be told")
    polarity = str(row.get("question_polarity") or "").strip().lower()
    if polarity not in ("neg", "nonneg"):
        raise UnreadableItem("question_polarity is neither neg nor nonneg")
    other = ({0, 1, 2} - {unknown, meant[0]}).pop()
    return unknown, meant[0] if polarity == "neg" else other


def _named_group(info: object, place: int) -> str:
    entry = info.get(f"ans{place}") if isinstance(info, dict) else None
    return str(entry[-1]).strip().lower() if isinstance(entry, list) and entry else ""


def _spellings(group: str) -> set[str]:
    """BBQ writes "F-Black" for a woman of the group Black, "f" and "woman" of one."""
    whole = {group, group.split("-", 1)[-1]}
    return whole | {"f": {"woman", "girl", "women"}, "m": {"man", "boy", "men"}}.get(group, set())


READ: dict[str, Callable[[FileRow], Item]] = {
    "stereotype_pairs": sentence_pair,
    "choices": choice_question,
}
