"""Plain-text descriptions of how rows were read, and of recipes and filters.

They cover which columns play which role, the title of a step, and why a row was left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from store.core.languages import SPOKEN, get_language_name
from store.data.cleaning import (
    AddRows,
    Balance,
    CapLength,
    DropDuplicates,
    EditRows,
    FilterRows,
    FixEncoding,
    MapColumns,
    Mix,
    Normalise,
    Redact,
    Relabel,
    Sample,
    Step,
    Strip,
)
from store.data.filters import Condition, Filter
from store.data.formats import FORMATS, list_columns
from store.data.schemas import UndecidedColumn, UnusedColumnRole
from store.data.signals import SIGNALS, Signal

NAMED = 12  # maximum number of ignored columns listed by name
ROLES = {  # roles whose name alone is unclear
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

MAY_BE: dict[UnusedColumnRole, str] = {  # of an unused column
    "mark": "may rate the answers",
    "answer": "may be an answer to learn from",
    "label": "may be the label to learn",
    "text": "may be a text to learn from",
}


def describe_used_columns(
    format: str,
    columns: Mapping[str, str],
    answers: str | None = None,
    values: Mapping[str, str] | None = None,
) -> str:
    """Describe the columns used: "question; choices = A, B, C, D; answer = key (its letter)".

    A column is named only if its name differs from its role.
    """
    form = FORMATS[format]
    notes = {"answer": BY[answers]} if answers else {}
    if values and form.meanings:
        notes[form.required[-1]] = ", ".join(f"{value}: {meaning}" for value, meaning in values.items())
    parts = []
    for role in (*form.roles, "part"):
        if names := list_columns(columns, role) if role in form.several else [columns.get(role, "")]:
            if not names[0]:
                continue
            note = f" ({notes[role]})" if role in notes else ""
            role_words = ROLES.get(role, role)
            other_names = "" if names == [role_words] else f" = {', '.join(names)}"
            parts.append(f"{role_words}{other_names}{note}")
    return "; ".join(parts)


def describe_ignored_columns(ignored: Sequence[str], count: int | None = None) -> str:
    """List the unused columns, or state that there are none."""
    total = len(ignored) if count is None else count
    if not total:
        return "no column"
    more = f" and {total - NAMED:,} more" if total > NAMED else ""
    return ", ".join(ignored[:NAMED]) + more


def describe_excluded_columns(left_out: Mapping[str, int]) -> str:
    """List the columns left out on purpose, each with its number of non-empty rows."""
    return ", ".join(f"{column} (in {rows:,} rows)" for column, rows in left_out.items())


def format_some_values(column: UndecidedColumn) -> str:
    """Format some values of a column and the number of others: "false, true" or "a, b, c, d and 43 more"."""
    more = column.distinct - len(column.values)
    return ", ".join(column.values) + (f" and {more:,} more" if more > 0 else "")


KEPT = {"first": "first", "longest_answer": "longest answer", "shortest_answer": "shortest answer",
        "most_frequent": "most frequent answer"}  # fmt: skip
DUPLICATES = {"exact": "exact duplicates", "folded": "rows that differ only in case and spacing",
              "near": "near duplicates", "prompt": "rows with the same prompt",
              "conflict": "rows that contradict another answer to their prompt"}  # fmt: skip
PII = {"email": "e-mail addresses", "phone": "phone numbers", "card": "card numbers", "iban": "bank accounts",
       "ip": "IP addresses", "ssn": "social security numbers", "person": "names of people",
       "address": "street addresses", "secret": "secrets"}  # fmt: skip
ALIKE = {"exact_group": "exact duplicates", "near_group": "near duplicates",
         "folded_group": "others that differ only in case and spacing",
         "near_chain": "others in its chain of near duplicates",
         "prompt_group": "others with its prompt"}  # fmt: skip
PARTS = ("train", "validation", "test")
VALUE_SHOWN = 40  # maximum characters of a value in a title


def describe_step(step: Step) -> str:
    """Describe a step in one line: "Drop near duplicates (0.7), keep the longest answer"."""
    match step:
        case FixEncoding():
            return "Fix broken characters"
        case Normalise():
            return _describe_normalise(step)
        case Strip():
            more = [word for word, on in (("HTML", step.html), ("boilerplate", step.boilerplate)) if on]
            return f"Strip {_join_words(['white space', *more])}"
        case MapColumns():
            used = ", ".join(f"{role} = {column}" for role, column in step.columns.items())
            return f"Read as {FORMATS[step.format].title.lower()}: {used}"
        case FilterRows():
            return f"{step.action.title()} rows where {describe_filter(step.where)}"
        case DropDuplicates():
            share = f" ({step.threshold:g})" if step.kind == "near" else ""
            alike = step.conflicts == "drop" and step.kind in ("exact", "folded", "near")
            too = ", of other labels and answers too" if alike else ""
            return f"Drop {DUPLICATES[step.kind]}{share}{too}, keep the {KEPT[step.keep]}"
        case Redact():
            return f"Redact {_join_words([PII[kind] for kind in step.kinds])}"
        case CapLength():
            unit = f"tokens of {step.model}" if step.unit == "tokens" and step.model else step.unit
            return f"{step.action.title()} rows longer than {step.most:,} {unit}"
        case Balance():
            column = format_column_title(step.column)
            if step.most is None:
                return f"Balance {column} to its rarest value"
            return f"At most {step.most:,} row{'' if step.most == 1 else 's'} of each {column}"
        case Sample():
            how = "at random" if step.by == "random" else "spread over topics"
            return f"Sample {step.rows:,} rows {how}"
        case Relabel():
            which = f"the {step.most:,} most suspicious labels" if step.most else "suspected label errors"
            return f"Drop {which}" if step.action == "drop" else f"Correct {which}"
        case Mix():
            return f"Mix in {step.dataset} ({step.share:.0%})"
        case AddRows():
            parts = "" if len(step.parts) == len(PARTS) else f" ({_join_words(list(step.parts))})"
            return f"Add the rows of {step.called or step.dataset}{parts} and keep the split"
        case EditRows():
            count = len(step.edits)
            return f"Edit {count:,} row{'' if count == 1 else 's'} by hand"
    raise TypeError(f"{step!r} is not a recipe step")  # unreachable: the cases cover the whole union


def describe_filter(where: Filter) -> str:
    """Describe a filter's rows: 'language is German and the text contains "x"', or "all rows"."""
    parts = []
    if where.search:
        parts.append(f"the text contains {_format_value(where.search)}")
    if where.regex:
        parts.append(f"the text matches {_truncate(where.regex)}")
    parts += [_describe_condition(condition) for condition in where.conditions]
    if where.row_ids is not None:
        count = len(where.row_ids)
        chosen = ", ".join(map(str, where.row_ids)) if count <= 5 else "of a selection"
        parts.append(f"the row is {chosen}" if count == 1 else f"the row is one of {count:,} ({chosen})")
    if where.expression.strip():
        parts.append(_truncate(" ".join(where.expression.split())))
    return " and ".join(parts) or "all rows"


def describe_selected_rows(part: str, where: Mapping[str, Any] | None) -> str:
    """Describe a part and a filter: "test rows", "test rows where the language is German", "all rows"."""
    rows = f"{part} rows"
    return f"{rows} where {describe_filter(Filter.parse(where))}" if where else rows


def format_column_title(column: str) -> str:
    """Return a column's display name: "language", "topic", "source.category"."""
    signal = SIGNALS.get(column)
    if signal is None:
        return column.replace("_", " ")
    return signal.title if signal.title[1:2].isupper() else signal.title[:1].lower() + signal.title[1:]


def _describe_condition(condition: Condition) -> str:
    name, value = format_column_title(condition.column), condition.value
    signal = SIGNALS.get(condition.column)
    if signal and signal.type == "flag" and condition.op == "is" and isinstance(value, bool):
        return _describe_finding(signal, value)
    if signal and signal.unit == "found" and value == 0 and condition.op in (">", "is"):
        return _describe_finding(signal, condition.op == ">")
    if condition.column in ALIKE and (group := _describe_group(condition)):
        return group
    if condition.column == SPOKEN and condition.op in ("is", "is not") and value:
        codes = value if isinstance(value, list | tuple) else [value]
        return (
            f"{name} {condition.op} {_join_words([get_language_name(str(c)) for c in codes[:5]], 'or')}"
            + _format_remainder(len(codes) - 5)
        )
    match condition.op:
        case "between":
            return f"{name} is from {_format_value(value[0])} to below {_format_value(value[1])}"
        case "is" if isinstance(value, list | tuple) and not value:
            return f"{name} is one of no values"
        case "is" if isinstance(value, list | tuple):
            return (
                f"{name} is {_join_words([_format_value(entry) for entry in value[:5]], 'or')}"
                + _format_remainder(len(value) - 5)
            )
        case "is" | "is not" if value is None:
            return f"{name} {condition.op} missing"
        case "is empty" | "is not empty":
            return f"{name} {condition.op}"
        case op:
            return f"{name} {op} {_format_value(value)}"


def _describe_finding(signal: Signal, occurs: bool) -> str:
    """Describe a finding: "refusals were found", "HTML was not found"."""
    verb = "were" if signal.title.endswith("s") else "was"
    return f"{format_column_title(signal.column)} {verb}{'' if occurs else ' not'} found"


def _describe_group(condition: Condition) -> str:
    """Describe a condition on a group of duplicates; "" for unusual conditions."""
    alike, value = ALIKE[condition.column], condition.value
    if condition.op == "is not empty" or (condition.op == "is not" and value is None):
        return f"the row has {alike}"
    if condition.op == "is empty" or (condition.op == "is" and value is None):
        return f"the row has no {alike}"
    if condition.op == "is" and isinstance(value, int):
        return f"the row is in the group of row {value:,} ({format_column_title(condition.column)})"
    return ""


def _describe_normalise(step: Normalise) -> str:
    form = "" if step.unicode == "none" else f"Unicode ({step.unicode})"
    parts = [part for part in (form, "line ends", "white space" if step.white_space else "") if part]
    return f"Normalize {_join_words(parts)}"


def _format_value(value: Any) -> str:
    return f'"{_truncate(value)}"' if isinstance(value, str) else str(value)


def _truncate(text: str) -> str:
    return text if len(text) <= VALUE_SHOWN else text[: VALUE_SHOWN - 1] + "…"


def _format_remainder(count: int) -> str:
    return f" or {count:,} more" if count > 0 else ""


def _join_words(parts: list[str], last: str = "and") -> str:
    """Join words as in "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"
