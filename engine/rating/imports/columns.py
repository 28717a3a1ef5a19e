"""Detect what a file of ratings holds and the role of each column, from column names and the first rows.

The user's mapping takes precedence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from engine.data.conversion.conversation_turns import find_turn_keys
from engine.data.conversion.judged_answers import (
    ANNOTATOR,
    BETTER_NAMES,
    MARKS,
    find_answer_pairs,
    infer_marks,
)
from engine.data.readers.file_rows import FileRows, list_values, map_names, normalise_name
from store.core.errors import ConfigError
from store.data.formats import assign_roles
from store.rating.config import ImportRound
from store.rating.rating_files import RATING_FORMS, RatingForm

MODEL_PAIRS = (
    ("model_a", "model_b"), ("model_1", "model_2"), ("model1", "model2"), ("generator_1", "generator_2"),
    ("system_a", "system_b"), ("system_1", "system_2"), ("left_model", "right_model"),
    ("model_left", "model_right"), ("player_a", "player_b"), ("method_a", "method_b"),
    ("left", "right"), ("model_x", "model_y"),
)  # fmt: skip
BOTH_MODELS = ("cmp_key", "models", "model_pair", "pair", "matchup")
SEPARATORS = (" vs. ", " vs ", "|", ",", "/", "_")  # separators of two models in one column
WINNER_COLUMNS = ("winner_model_a", "winner_model_b", "winner_tie")
RATERS = (
    "rater", "judge", "annotator", "worker", "rater_id", "judge_id", "annotator_id", "worker_id", "performer",
    "assessor", "evaluator", "labeler", "labeller", "voter", "user", "user_id", "username",
)  # fmt: skip
ROLES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "instruction", "question", "query", "input", "task", "article", "context", "text"),
    "prompt_id": ("prompt_id", "question_id", "task_id", "item_id", "instance_id", "sample_id"),
    "input": ("input",),
    "system": ("system", "system_prompt", "system_message"),
    "seconds": ("seconds", "time_per_example", "elapsed_seconds", "duration_seconds", "seconds_spent"),
    "time": ("rated_at", "tstamp", "timestamp", "created_at", "submitted_at"),
    "comment": ("comment", "rationale", "explanation", "justification", "feedback_text"),
}
ANSWERS = ("answer", "response", "output", "completion", "generation", "conversation", "summary")
MODELS = ("model", "model_name", "model_id", "generator", "system_name")
SCORES = (
    "score", "rating", "quality", "overall", "helpfulness", "correctness", "coherence", "relevance",
    "fluency", "complexity", "verbosity", "faithfulness", "accuracy", "safety",
)  # fmt: skip
PASSED = ("passed", "pass", "correct", "is_correct", "accepted", "ok", "passes")
REASONS = ("reason", "failure_reason")
LABELS = ("label", "category", "class", "intent", "sentiment", "annotation")
TEXTS = ("text", "sentence", "utterance", "comment", "review", "tweet", "message", "content", "document")
MAX_NAME = 120  # maximum characters of a model or rater name
_ID = re.compile(r"\s*(?=\D*\d)[\w-]{1,40}\s*")  # one word with a digit
SOFT_B = ("preference", "preference_b", "prob_b", "p_b", "probability_b")
SOFT_A = ("preference_a", "prob_a", "p_a", "probability_a")


class FileHead(NamedTuple):
    """Columns and first rows of a file, including mapped paths into objects."""

    columns: list[str]
    rows: FileRows


class ColumnMapping(NamedTuple):
    """How rows are read; `problem` says what is missing, or is None."""

    form: RatingForm | None
    mapping: dict[str, str]
    problem: str | None


def choose_columns(head: FileHead, config: ImportRound) -> ColumnMapping:
    """Detect the mapping of columns; `config` overrides what is detected.

    Raises ConfigError (columns) for a column that the file does not have, or one with two roles.
    """
    given = {role: column for role, column in config.columns.items() if column}
    for role, column in given.items():
        if column not in head.columns:
            raise ConfigError(
                f"There is no column {column!r} for {role}.",
                fix=f"The file has {', '.join(head.columns[:20])}.",
                field="columns",
            )
    without = {role for role, column in config.columns.items() if not column}
    left = set(config.ignore) | set(given.values())
    free = head._replace(columns=[name for name in head.columns if name not in left])
    form = RATING_FORMS[config.form] if config.form else _choose_form(head, free, config.columns)
    if form is None:
        return ColumnMapping(None, given, "No column has the better answer, a score, or a label.")
    unknown = [role for role in config.columns if form.base_of(role) is None]
    if unknown:
        raise ConfigError(
            f"columns has the role {unknown[0]!r}, which {form.title.lower()} do not have.",
            fix=f"Roles are {', '.join(form.roles)}; another kind of rows is chosen with form.",
            field="columns",
        )
    recognised = _FINDERS[form.name](free)
    taken = set(given.values())
    bases = {form.base_of(role) for role in config.columns}
    mapping = {
        role: column
        for role, column in recognised.items()
        if role not in without and form.base_of(role) not in bases and column not in taken
    } | given
    if "winner" in bases or bases & {"preference_a", "preference_b", "won_a"}:
        mapping = _keep_given_verdict(mapping, bases)
    _check_once(mapping)
    return ColumnMapping(
        form, mapping, _find_missing(form, mapping) or _find_ambiguous_side(head.rows, mapping)
    )


def _find_ambiguous_side(rows: FileRows, mapping: Mapping[str, str]) -> str | None:
    """Return a problem if the verdict is a number between 0 and 1 whose side isn't known."""
    column = mapping.get("winner")
    if column is None or not _are_soft(list_values(rows, column), one_to_two=False):
        return None
    return (
        f"{column} has numbers from 0 to 1, but it is unclear for which answer: map it to preference_a if 1"
        " means the first, or to preference_b if 1 means the second."
    )


def _keep_given_verdict(mapping: dict[str, str], bases: set[str | None]) -> dict[str, str]:
    """Drop detected verdicts in favor of the configured one."""
    verdicts = ("winner", "preference_a", "preference_b", "won_a", "won_b", "won_tie")
    of = RATING_FORMS["votes"].base_of
    return {
        role: column
        for role, column in mapping.items()
        if of(role) not in verdicts or of(role) in bases or (role.startswith("won_") and "won_a" in bases)
    }


def _check_once(mapping: Mapping[str, str]) -> None:
    by_column: dict[str, str] = {}
    for role, column in mapping.items():
        if column in by_column:
            raise ConfigError(
                f"The column {column!r} is mapped to {by_column[column]} and to {role}.",
                fix="Map each role to a separate column.",
                field="columns",
            )
        by_column[column] = role


def _find_missing(form: RatingForm, mapping: Mapping[str, str]) -> str | None:
    for group in form.needs:
        if not any(role in mapping for role in group):
            return f"No column is mapped to {' or '.join(group)}."
    if form.name == "votes":
        if ("model_a" in mapping) != ("model_b" in mapping):
            return "Only one of model_a and model_b has a column."
        if not {"model_a", "models"} & set(mapping) and not {"answer_a", "answer_b"} <= set(mapping):
            return "No columns for the compared items: model_a and model_b, or answer_a and answer_b."
    if form.name in ("scores", "passes") and not {"answer", "model", "prompt"} & set(mapping):
        return "No column for the rated item (answer, model or prompt)."
    return None


def _choose_form(head: FileHead, free: FileHead, given: Mapping[str, str]) -> RatingForm | None:
    """Return the only form that has all configured roles, else the first form whose required roles
    are found.
    """
    forms = list(RATING_FORMS.values())
    if roles := set(given):
        fit = [form for form in forms if all(form.base_of(role) for role in roles)]
        if len(fit) == 1:
            return fit[0]
        forms = fit or forms
    for form in forms:
        mapping = {**_FINDERS[form.name](free), **given}
        if _find_missing(form, mapping) is None and (
            form.name != "labels" or "rater" in mapping or "label_2" in mapping
        ):
            return form
    return None


# -- by form ----------------------------------------------------------------------------------------


def _find_votes(head: FileHead) -> dict[str, str]:
    names, rows = map_names(head.columns), head.rows
    models = _find_model_pair(names, rows)
    pairs = find_answer_pairs([name for name in head.columns if name not in models.values()], rows)
    pair = pairs[0] if pairs else ()
    mapping = {**models, **dict(zip(("answer_a", "answer_b"), pair, strict=False))}
    mapping |= _find_verdict(head, names, set(mapping.values()))
    mapping |= _find_metadata(head, names, mapping)
    if "turn" in names and pair and all(find_turn_keys(value) for value in list_values(rows, pair[0])[:20]):
        mapping["turn"] = names["turn"]
    return mapping


def _find_model_pair(names: Mapping[str, str], rows: FileRows) -> dict[str, str]:
    for first, second in MODEL_PAIRS:
        if first in names and second in names:
            pair = (names[first], names[second])
            if (
                "model" in first
                or "generator" in first
                or all(_are_names(list_values(rows, each)) for each in pair)
            ):
                return dict(zip(("model_a", "model_b"), pair, strict=True))
    for alias in BOTH_MODELS:
        if alias in names and find_separator(list_values(rows, names[alias])):
            return {"models": names[alias]}
    return {}


def _are_names(values: Sequence[Any]) -> bool:
    """Return whether the values are short texts that repeat."""
    texts = [value for value in values if isinstance(value, str) and len(value) <= MAX_NAME]
    return bool(values) and len(texts) == len(values) and 2 * len(set(texts)) <= len(texts)


def find_separator(values: Sequence[Any]) -> str | None:
    """Return the separator that splits each value into two names, or None."""
    texts = [value for value in values if isinstance(value, str)]
    if not texts or len(texts) < len(values):
        return None
    for separator in SEPARATORS:
        parts = [text.split(separator) for text in texts]
        if all(len(part) == 2 and part[0].strip() and part[1].strip() for part in parts):
            return separator
    return None


def _find_verdict(head: FileHead, names: Mapping[str, str], taken: set[str]) -> dict[str, str]:
    """Find the verdict columns: a flag for each side, a preference, one column of values, or one per
    rater.
    """
    if all(name in names for name in WINNER_COLUMNS[:2]):
        return {
            role: names[name]
            for role, name in zip(("won_a", "won_b", "won_tie"), WINNER_COLUMNS, strict=True)
            if name in names
        }
    for role, aliases in (("preference_a", SOFT_A), ("preference_b", SOFT_B)):
        for alias in aliases:
            if alias in names and _are_soft(
                list_values(head.rows, names[alias]), one_to_two=alias == "preference"
            ):
                return {role: names[alias]}
    for alias in BETTER_NAMES:
        if alias in names and names[alias] not in taken and list_values(head.rows, names[alias]):
            return {"winner": names[alias]}
    several = [
        name for name in head.columns if ANNOTATOR.fullmatch(normalise_name(name)) and name not in taken
    ]
    return assign_roles("winner", several)


def _are_soft(values: Sequence[Any], *, one_to_two: bool) -> bool:
    numbers = [parse_number(value) for value in values]
    present = [number for number in numbers if number is not None]
    if not present or len(present) < len(values):
        return False
    if one_to_two:
        return all(number == 0 or 1 <= number <= 2 for number in present) and max(present) > 1
    return all(0 <= number <= 1 for number in present) and any(number % 1 for number in present)


def parse_number(value: Any) -> float | None:
    """Parse a number, also from text; None if it isn't a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if number == number and abs(number) != float("inf") else None


def _find_metadata(
    head: FileHead, names: Mapping[str, str], verdict_columns: Mapping[str, str]
) -> dict[str, str]:
    """Find the columns for rater, prompt, and other metadata of a rating."""
    taken = set(verdict_columns.values())
    mapping: dict[str, str] = {}

    def add(role: str, aliases: Iterable[str], fits: Callable[[list[Any]], bool] = bool) -> None:
        for alias in aliases:
            column = names.get(alias)
            if column and column not in taken and fits(list_values(head.rows, column)):
                mapping[role] = column
                taken.add(column)
                return

    add("rater", RATERS)
    add("prompt", ROLES["prompt"], lambda values: bool(values) and not _are_ids(values))
    add(
        "prompt_id", (*ROLES["prompt_id"], *ROLES["prompt"]), lambda values: bool(values) and _are_ids(values)
    )
    if "prompt" in mapping:
        mapping.pop("prompt_id", None)  # the prompt text identifies items better
    for role in ("input", "system", "comment"):
        add(
            role, ROLES[role], lambda values: bool(values) and all(isinstance(value, str) for value in values)
        )
    add(
        "seconds",
        ROLES["seconds"],
        lambda values: bool(values) and all(parse_number(v) is not None for v in values),
    )
    add("time", ROLES["time"])
    return mapping


def _are_ids(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) or _ID.fullmatch(str(value)) for value in values)


def _find_single_answers(head: FileHead) -> dict[str, str]:
    names = map_names(head.columns)
    mapping = {
        role: names[next(alias for alias in aliases if alias in names)]
        for role, aliases in (("answer", ANSWERS), ("model", MODELS))
        if any(alias in names for alias in aliases)
    }
    return mapping | _find_metadata(head, names, mapping)


def _find_scores(head: FileHead) -> dict[str, str]:
    mapping, names = _find_single_answers(head), map_names(head.columns)
    taken = set(mapping.values())
    scores = [
        names[alias]
        for alias in SCORES
        if alias in names
        and names[alias] not in taken
        and (values := list_values(head.rows, names[alias]))
        and all(parse_number(value) is not None for value in values)
    ]
    return mapping | assign_roles("score", scores)


def _find_passes(head: FileHead) -> dict[str, str]:
    mapping, names = _find_single_answers(head), map_names(head.columns)
    for alias in (*PASSED, *MARKS):
        column = names.get(alias)
        if (
            column
            and column not in mapping.values()
            and alias not in SCORES
            and infer_marks(head.rows, column)
        ):
            mapping["passed"] = column
            break
    for alias in REASONS:
        if alias in names and names[alias] not in mapping.values():
            mapping["reason"] = names[alias]
            break
    return mapping


def _find_labels(head: FileHead) -> dict[str, str]:
    names = map_names(head.columns)
    mapping: dict[str, str] = {}
    for alias in TEXTS:
        if alias in names:
            mapping["text"] = names[alias]
            break
    several = [name for name in head.columns if ANNOTATOR.fullmatch(normalise_name(name))]
    label_columns = [
        names[alias] for alias in LABELS if alias in names and names[alias] not in mapping.values()
    ]
    mapping |= assign_roles("label", label_columns[:1] or several)
    about = _find_metadata(head, names, mapping)
    return mapping | {role: about[role] for role in ("rater", "seconds", "time", "comment") if role in about}


_FINDERS: Mapping[str, Callable[[FileHead], dict[str, str]]] = {
    "votes": _find_votes,
    "scores": _find_scores,
    "passes": _find_passes,
    "labels": _find_labels,
}
