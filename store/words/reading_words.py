"""How rows were read, in words: which columns play which role, what deciding values mean, what is ignored.
The same on the import form, on its account and on the command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from store.catalog.formats import FORMATS, columns_of
from store.documents.data.inspection import MayBe, UndecidedColumn

NAMED = 12  # ignored columns that are named
ROLES = {  # of roles whose name alone says too little
    "first": "first answer",
    "second": "second answer",
    "better": "better answer",
}
BY = {
    "text": "the text of the choice",
    "letter": "its letter",
    "number from 0": "its number, counted from 0",
    "number from 1": "its number, counted from 1",
}

MAY_BE: dict[MayBe, str] = {  # of a column that is used by nothing
    "mark": "may say how good the answers are",
    "answer": "may be an answer to learn from",
    "label": "may be the label to learn",
    "text": "may be a text to learn from",
}


def used_words(
    format: str,
    columns: Mapping[str, str],
    answers: str | None = None,
    values: Mapping[str, str] | None = None,
) -> str:
    """ "question; choices = A, B, C, D; answer = key (its letter)": a column is named where it has
    another name than its role."""
    form = FORMATS[format]
    notes = {"answer": BY[answers]} if answers else {}
    if values and form.meanings:
        notes[form.required[-1]] = ", ".join(f"{value}: {meaning}" for value, meaning in values.items())
    parts = []
    for role in (*form.roles, "part"):
        if names := columns_of(columns, role) if role in form.several else [columns.get(role, "")]:
            if not names[0]:
                continue
            note = f" ({notes[role]})" if role in notes else ""
            role_words = ROLES.get(role, role)
            other_names = "" if names == [role_words] else f" = {', '.join(names)}"
            parts.append(f"{role_words}{other_names}{note}")
    return "; ".join(parts)


def ignored_words(ignored: Sequence[str], count: int | None = None) -> str:
    """The columns of which nothing is used, or that there is none."""
    total = len(ignored) if count is None else count
    if not total:
        return "no column"
    more = f" and {total - NAMED:,} more" if total > NAMED else ""
    return ", ".join(ignored[:NAMED]) + more


def left_out_words(left_out: Mapping[str, int]) -> str:
    """The columns left out on purpose, each with the rows that have something in it."""
    return ", ".join(f"{column} (in {rows:,} rows)" for column, rows in left_out.items())


def values_words(column: UndecidedColumn) -> str:
    """Some values of a column and how many more there are: "false, true" or "a, b, c, d and 43 more"."""
    more = column["distinct"] - len(column["values"])
    return ", ".join(column["values"]) + (f" and {more:,} more" if more > 0 else "")
