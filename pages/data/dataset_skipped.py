"""The rows of the file that were not read: reasons counted, then line by line as they stand there."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.shared import reads
from pages.shared.session import plain
from store.catalog.left_out import is_meant

PAGE = 20


def show_skipped(dataset: dict[str, Any]) -> None:
    """A sentence, the reasons, and a page of the rows."""
    total, dataset_id = dataset["skipped_count"], dataset["dataset_id"]
    if not total:
        st.caption(
            "No row was skipped: a recipe made this version from rows that were read."
            if dataset["fates"]
            else "Every row of the file was read."
        )
        return
    of = total + dataset["row_count"]
    reasons = sorted(dataset["stats"].get("skipped_reasons", {}).items(), key=lambda pair: -pair[1])
    meant = sum(count for reason, count in reasons if is_meant(reason))
    advice = "A recipe could not read them." if dataset["fates"] else "Mend the file and import it again."
    if meant:
        which = f"{meant:,} of them" if meant < total else "it" if total == 1 else "them"
        advice = f"Nothing is wrong with {which}."
    st.markdown(f"**{total:,} of {plural(of, 'row')}** {'was' if total == 1 else 'were'} skipped. {advice}")
    st.markdown("\n".join(f"- {count:,} × {plain(reason)}" for reason, count in reasons))
    pages = -(-total // PAGE)
    slot = st.container(gap="xsmall")
    page = st.pagination(pages, key=f"skipped-page-{dataset_id}") if pages > 1 else 1
    rows = reads.skipped_rows(dataset_id, PAGE, (page - 1) * PAGE)
    with slot:
        first = PAGE * (page - 1)
        st.caption(f"{first + 1:,} to {first + len(rows):,} of {total:,}. Select one to read more of it.")
        _table(rows, f"skipped-{dataset_id}-{page}")


def _table(rows: list[dict[str, Any]], key: str) -> None:
    event = st.dataframe(
        rows,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=key,
        column_order=("line", "reason", "excerpt"),
        column_config={
            "line": st.column_config.NumberColumn("Line", width=70, format="localized"),
            "reason": st.column_config.TextColumn("Why", width=220),
            "excerpt": st.column_config.TextColumn("What stands there", width="large"),
        },
        height="content",
        alt="Skipped rows with line number and reason",
    )
    for at in event.selection.rows[:1]:
        st.caption(plain(f"Line {rows[at]['line']:,}: {rows[at]['reason']}"))
        st.code(rows[at]["excerpt"], None, wrap_lines=True)
