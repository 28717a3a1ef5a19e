"""The recipe that is being written for one data set: a list of step documents in the session.

Any screen may append to it (`add`); the order is the order in which the steps run. A step that is there
already is not added twice, and redactions are one step, so that a row is redacted once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

import streamlit as st

from store.config.data import recipe as recipes
from store.contract.document import Config
from store.contract.errors import ConfigError
from store.words import recipe_words

StepDocument = dict[str, Any]  # `step`, its kind, and the options of that kind as its form says them

# name of a step -> its model
STEPS: dict[str, type[Config]] = {
    model.model_fields["step"].default: model for model in get_args(get_args(recipes.Step)[0])
}

NAMES = {
    "fix_encoding": "Fix broken characters",
    "normalise": "Normalise the text",
    "strip": "Strip white space, HTML, boilerplate",
    "map_columns": "Read other columns",
    "filter": "Filter rows",
    "drop_duplicates": "Drop duplicates",
    "redact": "Redact personal data and secrets",
    "cap_length": "Cap the length",
    "balance": "Balance a column",
    "sample": "Take a sample",
    "label_errors": "Mend label errors",
    "mix": "Mix in another data set",
    "edit_rows": "Edit rows by hand",
}


def key(dataset_id: str) -> str:
    """Where the draft lies in the session."""
    return f"recipe-{dataset_id}"


def steps(dataset_id: str) -> list[StepDocument]:
    """The steps of the draft in their order."""
    draft: list[StepDocument] = st.session_state.get(key(dataset_id), [])
    return list(draft)


def put(dataset_id: str, documents: Iterable[StepDocument]) -> None:
    """Make these the steps of the draft."""
    st.session_state[key(dataset_id)] = list(documents)


def add(dataset_id: str, documents: Iterable[StepDocument]) -> None:
    """Append steps, each unless the draft has it; kinds to redact join the redaction that is there."""
    draft = steps(dataset_id)
    for document in documents:
        if _has(draft, document):
            continue
        at = next((i for i, step in enumerate(draft) if _merges(step, document)), None)
        if at is None:
            draft.append(document)
        elif document["step"] == "redact":
            draft[at] = {**draft[at], "kinds": [*draft[at]["kinds"], *document["kinds"]]}
        else:
            edited = {edit["row_id"] for edit in document["edits"]}
            others = [edit for edit in draft[at]["edits"] if edit["row_id"] not in edited]
            draft[at] = {**draft[at], "edits": [*others, *document["edits"]]}
    put(dataset_id, draft)


def holds(dataset_id: str, documents: Iterable[StepDocument]) -> bool:
    """Whether the draft has all of these steps."""
    draft = steps(dataset_id)
    return all(_has(draft, document) for document in documents)


def remove(dataset_id: str, index: int) -> None:
    """Take one step out."""
    put(dataset_id, [step for i, step in enumerate(steps(dataset_id)) if i != index])


def move(dataset_id: str, index: int, by: int) -> None:
    """Move one step up (-1) or down (1); at the ends it stays."""
    draft = steps(dataset_id)
    to = min(max(index + by, 0), len(draft) - 1)
    draft.insert(to, draft.pop(index))
    put(dataset_id, draft)


def replace(dataset_id: str, index: int, document: StepDocument) -> None:
    """Put another document in the place of one step."""
    draft = steps(dataset_id)
    draft[index] = document
    put(dataset_id, draft)


def check(documents: list[StepDocument]) -> tuple[list[StepDocument], str]:
    """The steps as a recipe that runs would say them, in full, or none and what is wrong."""
    try:
        parsed = recipes.Recipe.parse({"steps": documents})
    except ConfigError as error:
        return [], str(error)
    return parsed.model_dump(exclude_none=True)["steps"], ""


def title(document: StepDocument) -> str:
    """A step in plain words; its name where its options are not valid yet."""
    try:
        (step,) = recipes.Recipe.parse({"steps": [document]}).steps
    except ConfigError:
        return name(str(document.get("step", "")))
    return recipe_words.title(step)


def name(step: str) -> str:
    """What a kind of step is called; a word of another kind without its underscores."""
    return NAMES.get(step) or step.replace("_", " ").capitalize()


def _has(draft: list[StepDocument], document: StepDocument) -> bool:
    if document["step"] == "redact":
        kinds = {kind for step in draft if step["step"] == "redact" for kind in step.get("kinds", [])}
        return set(document["kinds"]) <= kinds
    return _full(document) in [_full(step) for step in draft]


def _full(document: StepDocument) -> StepDocument:
    """With the defaults filled in, so that two ways of saying a step are one."""
    full_steps, _ = check([document])
    return full_steps[0] if full_steps else document


def _merges(step: StepDocument, document: StepDocument) -> bool:
    return step["step"] == document["step"] and document["step"] in ("redact", "edit_rows")
