"""What a preview says of classes: how many rows each has, and the label of the row that is shown."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.diagnostics import phrasing

LISTED = 4  # classes before the table scrolls


def fact(answer: dict[str, Any]) -> tuple[str, str, str]:
    """The number of classes, and how small the smallest is."""
    classes = answer["classes"]
    smallest = phrasing.plural(classes["smallest"], "training row")
    return ("Classes", f"{classes['count']:,}", f"the smallest has {smallest}")


def show_counts(answer: dict[str, Any]) -> None:
    """Rows of each class in each part, the largest first."""
    classes = answer["classes"]
    names = ("Class", "Train", "Valid.", "Test")
    rows = [dict(zip(names, row, strict=True)) for row in classes["rows"]]
    listed = "" if len(rows) == classes["count"] else f", the {len(rows):,} largest of {classes['count']:,}"
    st.caption(f"Rows of each class{listed}")
    st.dataframe(
        rows,
        hide_index=True,
        height="content" if len(rows) <= LISTED else 35 * (LISTED + 1) + 3,
        column_config={
            "Class": st.column_config.TextColumn(width=130),
            **{name: st.column_config.NumberColumn(width=62) for name in names[1:]},
        },
        alt="Rows of each class",
    )
