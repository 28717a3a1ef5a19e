"""Recipes and filters in plain words: the title of a step, what a filter means, why a row was dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from store.catalog.formats import FORMATS
from store.catalog.languages import SPOKEN, language_name
from store.catalog.signals import SIGNALS, Signal
from store.config.data.filters import Condition, Filter
from store.config.data.recipe import (
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

KEPT = {"first": "first", "longest_answer": "longest answer", "shortest_answer": "shortest answer",
        "most_frequent": "most frequent answer"}  # fmt: skip
DUPLICATES = {"exact": "exact duplicates", "folded": "rows that are the same but for case and spacing",
              "near": "near duplicates", "prompt": "rows with the same prompt",
              "conflict": "rows that contradict another answer to their prompt"}  # fmt: skip
PII = {"email": "e-mail addresses", "phone": "phone numbers", "card": "card numbers", "iban": "bank accounts",
       "ip": "IP addresses", "ssn": "social security numbers", "person": "names of people",
       "address": "street addresses", "secret": "secrets"}  # fmt: skip
ALIKE = {"exact_group": "exact duplicates", "near_group": "near duplicates",
         "folded_group": "others that are the same but for case and spacing",
         "near_chain": "others in its chain of near duplicates",
         "prompt_group": "others with its prompt"}  # fmt: skip
VALUE_SHOWN = 40  # characters of a value that a title holds


def title(step: Step) -> str:
    """What a step does, as one line: "Drop near duplicates (0.7), keep the longest answer"."""
    match step:
        case FixEncoding():
            return "Fix broken characters"
        case Normalise():
            return _normalise(step)
        case Strip():
            more = [word for word, on in (("HTML", step.html), ("boilerplate", step.boilerplate)) if on]
            return f"Strip {_list(['white space', *more])}"
        case MapColumns():
            used = ", ".join(f"{role} = {column}" for role, column in step.columns.items())
            return f"Read as {FORMATS[step.format].title.lower()}: {used}"
        case FilterRows():
            return f"{step.action.title()} rows where {words(step.where)}"
        case DropDuplicates():
            share = f" ({step.threshold:g})" if step.kind == "near" else ""
            alike = step.conflicts == "drop" and step.kind in ("exact", "folded", "near")
            too = ", of other labels and answers too" if alike else ""
            return f"Drop {DUPLICATES[step.kind]}{share}{too}, keep the {KEPT[step.keep]}"
        case Redact():
            return f"Redact {_list([PII[kind] for kind in step.kinds])}"
        case CapLength():
            unit = f"tokens of {step.model}" if step.unit == "tokens" and step.model else step.unit
            return f"{step.action.title()} rows longer than {step.most:,} {unit}"
        case Balance():
            column = column_title(step.column)
            if step.most is None:
                return f"As many rows of each {column} as the rarest has"
            return f"At most {step.most:,} row{'' if step.most == 1 else 's'} of each {column}"
        case Sample():
            how = "at random" if step.by == "random" else "spread over the topics"
            return f"Sample {step.rows:,} rows {how}"
        case Relabel():
            which = f"the {step.most:,} most suspicious labels" if step.most else "suspected label errors"
            return f"Drop {which}" if step.action == "drop" else f"Correct {which}"
        case Mix():
            return f"Mix in {step.dataset} ({step.share:.0%})"
        case EditRows():
            count = len(step.edits)
            return f"Edit {count:,} row{'' if count == 1 else 's'} by hand"
    raise TypeError(f"{step!r} is no step of a recipe")  # the union above is all there is


def words(where: Filter) -> str:
    """Which rows a filter means: 'language is German and the text contains "x"'; or "all rows"."""
    parts = []
    if where.search:
        parts.append(f"the text contains {_value(where.search)}")
    if where.regex:
        parts.append(f"the text matches {_cut(where.regex)}")
    parts += [_condition(condition) for condition in where.conditions]
    if where.row_ids is not None:
        count = len(where.row_ids)
        chosen = ", ".join(map(str, where.row_ids)) if count <= 5 else "of a selection"
        parts.append(f"the row is {chosen}" if count == 1 else f"the row is one of {count:,} ({chosen})")
    if where.expression.strip():
        parts.append(_cut(" ".join(where.expression.split())))
    return " and ".join(parts) or "all rows"


def rows_meant(part: str, where: Mapping[str, Any] | None) -> str:
    """Of a part and a filter: "test rows", "test rows where the language is German", "all rows"."""
    rows = f"{part} rows"
    return f"{rows} where {words(Filter.parse(where))}" if where else rows


def column_title(column: str) -> str:
    """A column as people call it: "language", "topic", "source.category"."""
    signal = SIGNALS.get(column)
    if signal is None:
        return column.replace("_", " ")
    return signal.title if signal.title[1:2].isupper() else signal.title[:1].lower() + signal.title[1:]


def _condition(condition: Condition) -> str:
    name, value = column_title(condition.column), condition.value
    signal = SIGNALS.get(condition.column)
    if signal and signal.type == "flag" and condition.op == "is" and isinstance(value, bool):
        return _finding(signal, value)
    if signal and signal.unit == "found" and value == 0 and condition.op in (">", "is"):
        return _finding(signal, condition.op == ">")
    if condition.column in ALIKE and (group := _group(condition)):
        return group
    if condition.column == SPOKEN and condition.op in ("is", "is not") and value:
        codes = value if isinstance(value, list | tuple) else [value]
        return f"{name} {condition.op} {_list([language_name(str(c)) for c in codes[:5]], 'or')}" + _more(
            len(codes) - 5
        )
    match condition.op:
        case "between":
            return f"{name} is from {_value(value[0])} to below {_value(value[1])}"
        case "is" if isinstance(value, list | tuple) and not value:
            return f"{name} is one of no values"
        case "is" if isinstance(value, list | tuple):
            return f"{name} is {_list([_value(entry) for entry in value[:5]], 'or')}" + _more(len(value) - 5)
        case "is" | "is not" if value is None:
            return f"{name} {condition.op} missing"
        case "is empty" | "is not empty":
            return f"{name} {condition.op}"
        case op:
            return f"{name} {op} {_value(value)}"


def _finding(signal: Signal, occurs: bool) -> str:
    """ "refusals were found", "HTML was not found"."""
    verb = "were" if signal.title.endswith("s") else "was"
    return f"{column_title(signal.column)} {verb}{'' if occurs else ' not'} found"


def _group(condition: Condition) -> str:
    """What a condition on a group of duplicates means; "" where it is none of the usual ones."""
    alike, value = ALIKE[condition.column], condition.value
    if condition.op == "is not empty" or (condition.op == "is not" and value is None):
        return f"the row has {alike}"
    if condition.op == "is empty" or (condition.op == "is" and value is None):
        return f"the row has no {alike}"
    if condition.op == "is" and isinstance(value, int):
        return f"the row is in the group of row {value:,} ({column_title(condition.column)})"
    return ""


def _normalise(step: Normalise) -> str:
    form = "" if step.unicode == "none" else f"Unicode ({step.unicode})"
    parts = [part for part in (form, "line ends", "white space" if step.white_space else "") if part]
    return f"Normalise {_list(parts)}"


def _value(value: Any) -> str:
    return f'"{_cut(value)}"' if isinstance(value, str) else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_SHOWN else text[: VALUE_SHOWN - 1] + "…"


def _more(count: int) -> str:
    return f" or {count:,} more" if count > 0 else ""


def _list(parts: list[str], last: str = "and") -> str:
    """a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"
