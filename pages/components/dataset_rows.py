"""The rows of a data set: search and paging, one row opened as a conversation and as it stood in the file.

Rows come a page at a time from the store, so that a million rows are as quick to open as ten.
"""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from pages.components import reads
from pages.components.conversation import prompt_and_answer, show_row
from pages.components.session import plain

PAGE = 20


def show_rows(dataset: dict[str, Any]) -> None:
    """A page of rows, or the one that the link names."""
    dataset_id = dataset["dataset_id"]
    opened = st.query_params.get("row")
    if opened is not None:
        _opened(dataset, opened)
        return
    search = st.text_input(
        "Search",
        key=f"rows-search-{dataset_id}",
        type="search",
        live="400ms",
        placeholder="Search in the text",
        label_visibility="collapsed",
        icon=":material/search:",
    )
    search = (search or "").strip()
    total = reads.dataset_row_count(dataset_id, search) if search else dataset["row_count"]
    pages = max(1, -(-total // PAGE))
    slot = st.container()
    page = st.pagination(pages, key=f"rows-page-{dataset_id}-{search}") if pages > 1 else 1
    found = reads.dataset_rows(dataset_id, search, PAGE, (page - 1) * PAGE)
    with slot:
        first, last = (page - 1) * PAGE + 1, (page - 1) * PAGE + len(found)
        if not found:
            st.caption(f"No row contains “{plain(search)}”." if search else "There is no row.")
            return
        st.caption(f"Rows {first:,} to {last:,} of {total:,}. Select a row to open it.")
        _table(dataset_id, found)


def _table(dataset_id: str, found: list[dict[str, Any]]) -> None:
    cells = []
    for row in found:
        prompt, answer = prompt_and_answer(row)
        cell = {"row": row["row_id"], "prompt": prompt[:300], "answer": answer[:300]}
        cells.append(cell | {"label": row["label"]})
    labelled = any(cell["label"] for cell in cells)
    answered = any(cell["answer"] for cell in cells) and not labelled
    first = "Prompt" if answered or labelled else "Text"
    event = st.dataframe(
        cells,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=f"rows-table-{dataset_id}",
        column_order=("row", "prompt", *(("answer",) if answered else ()), *(("label",) if labelled else ())),
        column_config={
            "row": st.column_config.NumberColumn("Row", width="small", format="localized"),
            "prompt": st.column_config.TextColumn(first, width="large"),
            "answer": st.column_config.TextColumn("Answer", width="large"),
            "label": st.column_config.TextColumn("Label", width="medium"),
        },
        height=35 * (len(cells) + 1) + 3,
        alt="Rows of the data set",
    )
    if event.selection.rows:
        st.query_params["row"] = str(cells[event.selection.rows[0]]["row"])
        st.rerun()


def _opened(dataset: dict[str, Any], asked: str) -> None:
    """One row as a conversation and as it stood in the file; `asked` comes from the link."""
    number = int(asked) if asked.isdigit() else -1
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("All rows", icon=":material/table_rows:", on_click=_open_row, args=(None,), key="row-close")
        st.button(
            "Previous",
            icon=":material/chevron_left:",
            disabled=number <= 0,
            on_click=_open_row,
            args=(number - 1,),
            key="row-previous",
        )
        st.button(
            "Next",
            icon=":material/chevron_right:",
            disabled=number + 1 >= dataset["row_count"],
            on_click=_open_row,
            args=(number + 1,),
            key="row-next",
        )
        st.caption(f"Row {number:,} of {dataset['row_count']:,}, counted from 0")
    found = reads.dataset_row(dataset["dataset_id"], number) if 0 <= number < dataset["row_count"] else []
    if not found:
        st.warning(f"There is no row {plain(asked)} in this data set.", icon=":material/search_off:")
        return
    row = found[0]
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**As the model is given it**")
        show_row(row)
    with right:
        st.markdown(f"**As it stands in the file** (line {row['line']:,})")
        st.code(json.dumps(row["source"], ensure_ascii=False, indent=2), "json", wrap_lines=True)


def _open_row(number: int | None) -> None:
    if number is None:
        st.query_params.pop("row", None)
    else:
        st.query_params["row"] = str(number)
