"""How a file of ratings from elsewhere is read, in words: the same on the screen and on the command line."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from store.catalog.formats import columns_of
from store.catalog.rated_forms import MEANING_WORDS, RATED_FORMS, ROLE_WORDS
from store.documents.rating.rated_file import RatedFile, UnclearValue, UnusedColumn
from store.words.reading_words import ignored_words

MAX_NAMED = 12  # models, raters or meanings in a sentence


def used_roles_words(read: RatedFile) -> str:
    """ "which is better = winner; who rated = judge": the column of each role."""
    form = RATED_FORMS[read["form"] or "votes"]
    parts = []
    for role in form.roles:
        several = role in form.several
        names = columns_of(read["mapping"], role) if several else [read["mapping"].get(role, "")]
        if names and names[0]:
            parts.append(f"{ROLE_WORDS[role]} = {', '.join(names)}")
    return "; ".join(parts)


def meaning_words(values: Mapping[str, str]) -> str:
    """What values mean: "a: the first is better"."""
    meanings = [f"{value}: {MEANING_WORDS.get(meaning, meaning)}" for value, meaning in values.items()]
    more = f" and {len(meanings) - MAX_NAMED} more" if len(meanings) > MAX_NAMED else ""
    return "; ".join(meanings[:MAX_NAMED]) + more


def unused_words(column: UnusedColumn) -> str:
    """Why a column is asked about: “worker” (58, 83 and 122 more) may say who rated."""
    more = column["distinct"] - len(column["values"])
    values = ", ".join(column["values"]) + (f" and {more:,} more" if more > 0 else "")
    return f"“{column['name']}” ({values}) {column['why']}"


def unclear_words(unclear: UnclearValue) -> str:
    """A value of which it is not clear what it means."""
    return f"“{unclear['value']}” ({unclear['rows']:,} of the first rows)"


def rated_lines(read: RatedFile) -> list[str]:
    """All of it, a line each, with the options that answer what is still asked."""
    if read["form"] is None:
        return [f"Not recognised: {read['problem']}", f"columns: {', '.join(read['columns'])}"]
    lines = [f"Read as: {RATED_FORMS[read['form']].title}", f"  used: {used_roles_words(read)}"]
    if read["values"]:
        lines.append(f"  meaning: {meaning_words(read['values'])}")
    lines.append(f"  ignored: {ignored_words(read['ignored'])}")
    if read["problem"]:
        lines.append(f"  missing: {read['problem']}")
    for value in read["unclear"]:
        lines.append(f"  unclear: {unclear_words(value)}: --value {shlex.quote(value['value'] + '=…')}")
    for column in read["undecided"]:
        ways = [f"--column {shlex.quote(f'{role}=' + column['name'])}" for role in column["roles"][:2]]
        ways.append(f"--ignore {shlex.quote(column['name'])}")
        lines.append(f"  asked: {unused_words(column)}: {' or '.join(ways)}")
    if not read["whole"] and read["rows"]:
        lines.append(f"  counted: the first {read['rows']:,} rows alone")
    lines += [f"  {notice}" for notice in read["notices"]]
    if read["models"]:
        lines.append(f"  models: {names_words(read)}")
    return lines


def names_words(read: RatedFile) -> str:
    """The most rated models with their ratings."""
    most_rated = [f"{each['name']} ({each['ratings']:,})" for each in read["models"][:MAX_NAMED]]
    more = read["model_count"] - len(most_rated)
    return ", ".join(most_rated) + (f" and {more:,} more" if more > 0 else "")
