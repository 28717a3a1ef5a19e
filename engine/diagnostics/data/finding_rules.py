"""What each signal's finding is called, how serious it is and which recipe steps mend it, in one table.

Steps are documents of the recipe. The first fix of a rule loses the fewest rows that it can: repairing comes
before keeping one of several, and that before dropping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Document = dict[str, Any]
Severity = Literal["serious", "notable", "minor"]


@dataclass(frozen=True)
class Fix:
    """A button: its words, and the steps that it adds to the recipe."""

    label: str
    steps: tuple[Document, ...]


Fixes = Callable[[str, Mapping[str, Any]], tuple[Fix, ...]]


def _no_fix(column: str, options: Mapping[str, Any]) -> tuple[Fix, ...]:
    return ()


@dataclass(frozen=True)
class Rule:
    """noun: what is counted ("row …" or a noun of its own). why: in place of what the catalogue says."""

    severity: Severity = "minor"
    noun: str = ""
    why: str = ""
    fixes: Fixes = _no_fix


def steps(label: str, *documents: Document) -> Fixes:
    """A fix that is always the same."""
    return lambda column, options: (Fix(label, documents),)


def drop(reason: str, label: str = "Drop these rows") -> Fixes:
    """Drops the rows that are flagged."""
    return lambda column, options: (Fix(label, (_drop(column, "is", True, reason),)),)


def _drop(column: str, op: str, value: Any, reason: str) -> Document:
    where = {"conditions": [{"column": column, "op": op, "value": value}]}
    return {"step": "filter", "where": where, "action": "drop", "reason": reason}


def drop_above(bound: float, label: str, reason: str) -> Fixes:
    """Drops the rows whose value is above a bound."""
    return lambda column, options: (Fix(label, (_drop(column, ">", bound, reason),)),)


def redact(label: str = "Redact them") -> Fixes:
    """Puts a placeholder in place of what was found, or drops the rows."""
    return lambda column, options: (
        Fix(label, ({"step": "redact", "kinds": [column]},)),
        Fix("Drop these rows", (_drop(column, ">", 0, f"{column} found"),)),
    )


def _near(column: str, options: Mapping[str, Any]) -> tuple[Fix, ...]:
    """At the similarity that the groups were found with."""
    step: Document = {"step": "drop_duplicates", "kind": "near"}
    if options.get("threshold") is not None:
        step["threshold"] = options["threshold"]
    return (Fix("Keep one of each", (step,)),)


def _conflict(column: str, options: Mapping[str, Any]) -> tuple[Fix, ...]:
    frequent = {"step": "drop_duplicates", "kind": "conflict", "keep": "most_frequent"}
    return (
        Fix("Keep the most frequent answer", (frequent,)),
        Fix("Drop all of them", (_drop(column, "is", True, "contradicts another answer to its prompt"),)),
    )


def _suspects(column: str, options: Mapping[str, Any]) -> tuple[Fix, ...]:
    return (
        Fix("Drop these rows", ({"step": "label_errors", "action": "drop"},)),
        Fix("Take the suggested labels", ({"step": "label_errors", "action": "suggested"},)),
    )


def _cut(column: str, options: Mapping[str, Any]) -> tuple[Fix, ...]:
    """At the length that the rows were measured against; no fix where none is known."""
    if not options.get("max_length"):
        return ()
    step = {"step": "cap_length", "most": options["max_length"], "unit": "tokens"}
    step["model"] = options.get("model", "")
    return (
        Fix("Drop these rows", ({**step, "action": "drop"},)),
        Fix("Cut their end", ({**step, "action": "cut"},)),
    )


PERSONAL = "Personal data that the model may recite to anyone."

RULES: dict[str, Rule] = {
    "secret": Rule(
        "serious",
        "row with keys or passwords",
        "A model can recite them. Revoke them too: they were leaked.",
        redact(),
    ),
    "card": Rule("serious", "row with card numbers", PERSONAL, redact()),
    "iban": Rule("serious", "row with bank accounts", PERSONAL, redact()),
    "ssn": Rule("serious", "row with social security numbers", PERSONAL, redact()),
    "email": Rule("serious", "row with e-mail addresses", PERSONAL, redact()),
    "phone": Rule("serious", "row with phone numbers", PERSONAL, redact()),
    "address": Rule("serious", "row with street addresses", PERSONAL, redact()),
    "ip": Rule("minor", "row with IP addresses", "May point to a person or a machine.", redact()),
    "profanity": Rule(
        "minor",
        "row with profanity",
        "The model learns the tone.",
        drop_above(0, "Drop these rows", "profanity found"),
    ),
    "exact_group": Rule(
        "notable",
        "exact duplicate",
        "The model sees these rows several times, so they count for more than the others.",
        steps("Keep one of each", {"step": "drop_duplicates", "kind": "exact"}),
    ),
    "near_group": Rule(
        "notable",
        "near duplicate",
        "Rows that say nearly the same count for more than the others. Look at them first: a small"
        " difference may be what matters.",
        _near,
    ),
    "conflict": Rule(
        "notable",
        "row that another answer to its prompt contradicts",
        "The model is taught two answers to one question. Look at them first: no count tells which is right.",
        _conflict,
    ),
    "label_suspect": Rule("serious", "row whose label looks wrong", "", _suspects),
    "encoding_damage": Rule(
        "notable",
        "row with broken characters",
        "The file was read or written in a wrong encoding; the model learns to write like that.",
        steps("Repair them", {"step": "fix_encoding"}),
    ),
    "html": Rule("minor", "row with HTML", "", steps("Remove the tags", {"step": "strip", "html": True})),
    "boilerplate": Rule(
        "minor",
        "row with boilerplate",
        "",
        steps("Remove these lines", {"step": "strip", "boilerplate": True}),
    ),
    "empty_answer": Rule("serious", "row with an empty answer", "", drop("empty answer")),
    "one_word_answer": Rule("minor", "row with a one-word answer", "", drop("one-word answer")),
    "echo": Rule("notable", "row whose answer repeats the prompt", "", drop("answer repeats the prompt")),
    "refusal": Rule("notable", "row whose answer declines", "", drop("answer declines")),
    "truncated": Rule("notable", "row whose answer breaks off", "", drop("answer breaks off")),
    "repetition": Rule(
        "notable",
        fixes=drop_above(0.5, "Drop rows that are mostly repetition", "more than half repeats itself"),
    ),
    "cut": Rule("notable", "row longer than the model reads", "", _cut),
    "ifd": Rule(
        "notable",
        fixes=drop_above(1.0, "Drop rows above 1", "the answer does not follow from the prompt"),
    ),
}
