"""The options of a recipe step as a small form, drawn from the fields of the step's own model.

What the form says is a document that may be wrong; the step's model judges it, and its error is shown in
the form. Fields are labelled in plain words, with the field's description as help.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, Literal, Union, get_args, get_origin

import streamlit as st
from pydantic.fields import FieldInfo

from pages.data.clean.clean_filter import FilterFields, filter_fields
from pages.data.rows import clean_draft
from pages.data.rows.clean_draft import StepDocument
from pages.data.rows.clean_row_edit import RowEdit
from pages.shared import reads
from store.config.data.filters import Filter
from store.config.data.recipe import PII_KINDS
from store.documents.tables.dataset import Dataset

LABELS = {
    "unicode": "Unicode form",
    "white_space": "Tidy white space",
    "html": "Remove HTML",
    "boilerplate": "Remove boilerplate",
    "kind": "Which duplicates",
    "keep": "Keep which one",
    "kinds": "What to redact",
    "most": "At most",
    "by": "Chosen",
    "dataset": "Rows of",
    "share": "Share of the whole (0 to 1)",
    "where": "Rows",
    "threshold": "Similarity for near duplicates (0.5 to 1)",
    "columns": "Columns, one a line (role: column)",
}
LIMITS = 2**53 - 1  # the largest whole number that a browser keeps exactly


def step_fields(
    step: str, document: StepDocument, key: str, columns: Sequence[str], dataset: Dataset
) -> StepDocument:
    """Draw every option of a step, filled from `document`; what the widgets say now.

    columns: those that a filter may name. dataset: the version that the recipe starts from.
    """
    step_document: StepDocument = {"step": step}
    for name, info in clean_draft.STEPS[step].model_fields.items():
        if name in ("step", "edits"):
            continue
        start = document.get(
            name, None if info.is_required() else info.get_default(call_default_factory=True)
        )
        value = _field(name, info, start, f"{key}-{name}", columns, dataset)
        if value is not None:
            step_document[name] = value
    if step == "edit_rows":
        step_document["edits"] = _edits(document.get("edits", []), key)
    return step_document


def _field(name: str, info: FieldInfo, value: Any, key: str, columns: Sequence[str], dataset: Dataset) -> Any:
    label, help_text = LABELS.get(name, clean_draft.name(name)), info.description
    kind = _bare(info.annotation)
    if kind is Filter:
        return filter_fields(value or FilterFields(), key, columns)
    if name == "kinds":
        names = {kind: clean_draft.name(kind) for kind in PII_KINDS}
        return st.multiselect(label, PII_KINDS, value, key=key, help=help_text, format_func=names.__getitem__)
    if name in ("dataset", "column", "model"):
        return _choice(label, _choices(name, columns, dataset), value, key, help_text)
    if get_origin(kind) is Literal:
        options = get_args(kind)
        at = options.index(value) if value in options else 0
        return st.selectbox(label, options, at, key=key, help=help_text, format_func=_in_words)
    if kind is bool:
        return st.toggle(label, bool(value), key=key, help=help_text)
    if kind in (int, float):
        return _number(label, kind, value, key, help_text)
    if get_origin(kind) is dict:
        lines = "\n".join(f"{role}: {column}" for role, column in (value or {}).items())
        return _pairs(st.text_area(label, lines, key=key, help=help_text) or "")
    return st.text_input(label, value or "", key=key, help=help_text)


def _bare(annotation: Any) -> Any:
    """The type without None."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(part for part in get_args(annotation) if part is not type(None))
    return annotation


def _in_words(option: str) -> str:
    return option if option.isupper() else clean_draft.name(option)


def _number(label: str, kind: type, value: Any, key: str, help_text: str | None) -> int | float | None:
    """An empty field is left to the step's default."""
    if kind is int:
        start = None if value is None else int(value)
        return st.number_input(label, 0, LIMITS, start, 1, key=key, help=help_text, placeholder="automatic")
    start_at = None if value is None else float(value)
    return st.number_input(label, 0.0, 1.0, start_at, 0.05, "%.2f", key=key, help=help_text)


def _choice(label: str, options: list[str], value: Any, key: str, help_text: str | None) -> str | None:
    if value and value not in options:
        options = [value, *options]
    at = options.index(value) if value in options else None
    return st.selectbox(label, options, at, key=key, help=help_text, accept_new_options=True)


def _choices(name: str, columns: Sequence[str], dataset: Dataset) -> list[str]:
    if name == "dataset":
        return [row["name"] for row in reads.datasets() if row["dataset_id"] != dataset["dataset_id"]]
    if name == "model":
        return [model["name"] for model in reads.models()]
    return list(columns)


def _pairs(text: str) -> dict[str, str]:
    split = (line.partition(":") for line in text.splitlines() if line.strip())
    return {role.strip(): column.strip() for role, _, column in split}


def _edits(edits: list[RowEdit], key: str) -> list[RowEdit]:
    """Rows edited by hand: each can be taken out; to change one, edit the row again."""
    st.caption("Edit the row again to change what it says.")
    options = [edit["row_id"] for edit in edits]
    kept = st.multiselect("Edited rows", options, options, key=f"{key}-edits", format_func="Row {:,}".format)
    return [edit for edit in edits if edit["row_id"] in kept]
