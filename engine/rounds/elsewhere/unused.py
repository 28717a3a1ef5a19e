"""Columns of a file of ratings of which nothing would be used though they may matter: who rated, which model,
how good, which answer. They stop the import until somebody maps them or leaves them out on purpose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.data.convert.unused_columns import (
    ANSWERING,
    JUDGING,
    MAX_SHOWN,
    MAX_SHOWN_LENGTH,
    are_flags,
    are_labels,
    as_text,
    is_covered,
    says_where,
    words_in,
)
from engine.data.readers.column_values import FileRows, ignored, looked_at, value_at, values_of
from engine.rounds.elsewhere.columns import FileHead
from store.catalog.rated_forms import RatedForm
from store.documents.rating.rated_file import UnusedColumn

PEOPLE = frozenset(
    {
        "annotator",
        "assessor",
        "evaluator",
        "judge",
        "labeler",
        "labeller",
        "performer",
        "rater",
        "voter",
        "worker",
    }
)
MODELS = frozenset({"competitor", "generator", "model", "player", "system"})
MAY_BE = {
    "rater": "may say who rated",
    "model": "may name a model",
    "mark": "may say how good an answer is",
    "answer": "may hold an answer",
    "label": "has few values that come again and again",
}
ROLES = {
    "rater": ("rater",),
    "model": ("model_a", "model_b", "model", "models"),
    "mark": ("winner", "preference_a", "preference_b", "passed", "score", "label"),
    "answer": ("answer_a", "answer_b", "answer", "comment"),
    "label": ("rater", "models", "model", "label"),
}


def ignored_columns(head: FileHead, mapping: Mapping[str, str]) -> list[str]:
    """The columns of the file of which nothing is used."""
    return ignored(head.columns, dict(mapping))


def find_undecided(
    head: FileHead, form: RatedForm, mapping: Mapping[str, str], ignore: Sequence[str]
) -> list[UnusedColumn]:
    """The unused columns of which somebody has to say what they are."""
    rows = looked_at(head.columns, head.rows)
    kinds = _partitions(rows, mapping)
    undecided: list[UnusedColumn] = []
    for name in ignored_columns(head, mapping):
        if is_covered(name, ignore):
            continue
        may_be = _may_be(name, rows, mapping, kinds)
        if may_be is None:
            continue
        keys = Counter(filter(None, map(as_text, values_of(rows, name))))
        free = [role for role in ROLES[may_be] if role in form.roles and role not in mapping]
        several = [role for role in form.several if role in ROLES[may_be] and role in mapping]
        undecided.append(
            {
                "name": name,
                "why": MAY_BE[may_be],
                "values": [key[:MAX_SHOWN_LENGTH] for key, _ in keys.most_common(MAX_SHOWN)],
                "distinct": len(keys),
                "roles": [*free, *several],
            }
        )
    return undecided


def _partitions(rows: FileRows, mapping: Mapping[str, str]) -> dict[str, list[str]]:
    return {column: [as_text(value_at(row, column)) for row in rows] for column in mapping.values()}


def _may_be(
    name: str, rows: FileRows, mapping: Mapping[str, str], used: Mapping[str, list[str]]
) -> str | None:
    values = values_of(rows, name)
    keys = Counter(text for value in values if (text := as_text(value)))
    if len(keys) < 2 or any(isinstance(value, dict) for value in values):
        return None
    own = [as_text(row.get(name)) for row in rows]
    if any(_says_same(own, other) for other in used.values()):
        return None
    words = {word.removesuffix("s") for word in words_in(name)}
    for kind, vocabulary in (("rater", PEOPLE), ("model", MODELS)):
        if words & vocabulary and not _is_number(values):
            return kind
    if are_flags(values) or words & JUDGING:
        return "mark"
    if says_where(name, values, keys) or _is_of_prompt(own, mapping, used):
        return None
    if words & ANSWERING and not {"answer_a", "answer"} & set(mapping):
        return "answer"
    return "label" if are_labels(values, keys) else None


def _is_number(values: Sequence[Any]) -> bool:
    return all(isinstance(value, float) for value in values)


def _says_same(own: Sequence[str], other: Sequence[str]) -> bool:
    """Whether a column says the same as one that is used, in other words: ids beside names."""
    pairs = set(zip(own, other, strict=True))
    return len({first for first, _ in pairs}) == len(pairs) == len({second for _, second in pairs})


def _is_of_prompt(own: Sequence[str], mapping: Mapping[str, str], used: Mapping[str, list[str]]) -> bool:
    """Whether a column follows from the prompt, of which some come again: its topic, its length."""
    for column in _asked(mapping):
        prompts = used[column]
        if 2 * len(set(prompts)) <= len(prompts) and len(set(zip(prompts, own, strict=True))) == len(
            set(prompts)
        ):
            return True
    return False


def _asked(mapping: Mapping[str, str]) -> Iterator[str]:
    return (mapping[role] for role in ("prompt", "prompt_id", "text") if role in mapping)
