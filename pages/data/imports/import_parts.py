"""The column of a file that says which part each row is in, value by value, on the import form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.shared.session import plain
from store.catalog.formats import LEAVE_OUT

MOST = 30  # values of a column that is the split
NONE = "none: split by share"
PARTS = {
    "train": "Training",
    "validation": "Validation",
    "test": "Test",
    LEAVE_OUT: "Leave out",
}


def draw_parts(
    recognised: dict[str, Any], scope: str, look: Callable[[str], dict[str, Any]]
) -> tuple[str, dict[str, str]]:
    """The column ("" for none) and value -> part. `look` inspects the source with another such column."""
    columns = [NONE, *(column["name"] for column in recognised["columns"])]
    own = recognised["part_column"]
    column = st.selectbox(
        "Column that says the part",
        columns,
        index=columns.index(own) if own in columns else 0,
        key=f"import-part-column {scope}",
        help="Such as split, with the values train, val and test.",
    )
    if column == NONE:
        return "", {}
    if column != own:
        recognised = look(column)
    parts: dict[str, str] = {}
    options = list(PARTS)
    if len(recognised["part_values"]) > MOST:
        st.warning("The column has too many values to be a split.", icon=":material/warning:")
        return "", {}
    for value, rows in recognised["part_values"].items():
        part = recognised["parts"].get(value, LEAVE_OUT)
        parts[value] = st.selectbox(
            f"{plain(value)} ({plural(rows, 'row')} looked at)",
            options,
            index=options.index(part),
            format_func=PARTS.__getitem__,
            key=f"import-part {value} {scope}",
        )
    missing = [PARTS[part].lower() for part in ("validation", "test") if part not in parts.values()]
    taken = f" Those for {' and '.join(missing)} are taken from training: the file has none."
    st.caption(f"Rows stay in the part that the file gives them.{taken if missing else ''}")
    return column, parts
