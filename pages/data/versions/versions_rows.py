"""Rows of two versions as a table of one line each, opened one at a time with the changed words marked.

Every row of the version before and what became of it: a table to search, a page at a time.

Two versions row by row: how many rows differ, and how; one opened shows its changed words.
"""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.clean.clean_preview import FATE_TITLES, show_example
from pages.data.versions import versions_reads
from pages.shared import figures, quantities
from pages.shared.common_start import Cell, differing
from pages.shared.session import plain
from store.config.data.recipe import FATES
from store.documents.data.clean_preview import FateExample
from store.documents.data.fates import Fate, FateCounts, StepCounts
from store.documents.data.row import RowContents
from store.documents.tables.dataset import Dataset, RowFate, Version

BEFORE = 30  # characters in front of the first change that a line shows


@dataclass(frozen=True)
class RowPair:
    """One row in two versions: its number and contents in both, None where it is not there, and its fate."""

    first: int | None
    second: int | None
    fate: Fate
    before: RowContents | None
    after: RowContents | None
    reason: str | None = None
    step: int | None = None  # that dropped it


def show_table(
    rows: list[RowPair],
    words: dict[str, str],
    key: str,
    numbers: tuple[str, str] = ("Old row", "New row"),
    titles: tuple[str, str] = ("Before", "After"),
    badges: dict[str, str] | None = None,
) -> RowPair | None:
    """The row that is open. words: what fates are called here; numbers: what the first columns are called."""
    cells, alike = differing([_line(row, words) for row in rows], {"text": "Text"})
    if alike:
        st.caption(plain(alike))
    reasons = ["reason"] if any(cell["reason"] for cell in cells) else []
    event = st.dataframe(
        cells,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=key,
        column_order=["fate", "text", *reasons, "first", "second"],  # on a phone only the first are in sight
        column_config={
            "first": st.column_config.NumberColumn(numbers[0], width=80, format="localized"),
            "second": st.column_config.NumberColumn(numbers[1], width=80, format="localized"),
            "fate": st.column_config.TextColumn("Fate", width=110),
            "reason": st.column_config.TextColumn("Why", width="medium"),
            "text": st.column_config.TextColumn("Text", width="large"),
        },
        height="content",
        placeholder="–",
        alt="Rows of both versions and what became of them",
    )
    for at in event.selection.rows[:1]:
        row = rows[at]
        show_example(_example(row), titles, badges)
        return row
    return None


def _example(row: RowPair) -> FateExample:
    return {
        "row_id": row.second if row.first is None else row.first,
        "fate": row.fate,
        "step": row.step,
        "steps": [],
        "reason": row.reason,
        "before": row.before,
        "after": row.after,
    }


def _line(row: RowPair, words: dict[str, str]) -> Cell:
    return {
        "first": row.first,
        "second": row.second,
        "fate": words[row.fate],
        "reason": row.reason,
        "text": excerpt(_text(row.before), _text(row.after)),
    }


def excerpt(before: str | None, after: str | None) -> str:
    """A text from its beginning, or, where it changed, from shortly before its first change."""
    if before is None or after is None or before == after:
        return before or after or ""
    pairs = enumerate(zip(before, after, strict=False))
    at = next((at for at, (old, new) in pairs if old != new), min(len(before), len(after)))
    if at <= BEFORE:
        return after
    start = after.find(" ", at - BEFORE, at) + 1 or at - BEFORE  # not in the middle of a word
    return f"… {after[start:]}"


def _text(row: RowContents | None) -> str | None:
    return None if row is None else row["text"] or ""


PAGE = 20


def show_fates(dataset_id: str, steps: list[StepCounts]) -> None:
    """Search, fate and step choose; a selected row is opened with its changed words marked."""
    fate, step, search = _chosen(dataset_id, steps)
    slot = st.container()
    asked = f"{fate}-{step}-{search}"
    offset = PAGE * (st.session_state.get(f"fates-page-{dataset_id}-{asked}", 1) - 1)
    fates_page = versions_reads.fates(dataset_id, fate, step, search, PAGE, offset)
    pages = max(1, -(-fates_page["total"] // PAGE))
    if pages > 1:
        st.pagination(pages, key=f"fates-page-{dataset_id}-{asked}")
    with slot:
        if not fates_page["rows"]:
            st.caption("No row has that fate. Choose another, or search for less.")
            return
        last = offset + len(fates_page["rows"])
        st.caption(
            f"{offset + 1:,} to {last:,} of {plural(fates_page['total'], 'row')}. Select one to open it."
        )
        _table(dataset_id, fates_page["rows"], f"{asked}-{offset}")


def _chosen(dataset_id: str, steps: list[StepCounts]) -> tuple[Fate | None, int | None, str]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        fate: Fate | None = st.segmented_control(
            "Fate",
            list(FATE_TITLES),
            format_func=lambda fate: FATE_TITLES[fate][1],
            key=f"fates-fate-{dataset_id}",
            label_visibility="collapsed",
        )
        step = st.selectbox(
            "Step",
            range(len(steps)),
            None,
            format_func=lambda index: f"{index + 1}. {steps[index]['title']}",
            placeholder="Any step",
            label_visibility="collapsed",
            key=f"fates-step-{dataset_id}",
            width=260,
        )
        search = st.text_input(
            "Search",
            type="search",
            live="400ms",
            placeholder="Search in text and reason",
            label_visibility="collapsed",
            icon=":material/search:",
            key=f"fates-search-{dataset_id}",
            width=260,
        )
    return fate, step, (search or "").strip()


def _table(dataset_id: str, rows: list[RowFate], key: str) -> None:
    pairs = [
        RowPair(
            row["parent_row_id"],
            row["row_id"],
            row["fate"],
            _content(row["before"]),
            _content(row["after"]),
            row["reason"],
            row["step"],
        )
        for row in rows
    ]
    words: dict[str, str] = {fate: word for fate, (_, word) in FATE_TITLES.items()}
    opened = show_table(pairs, words, f"fates-table-{dataset_id}-{key}")
    if opened and opened.fate == "dropped":
        st.caption(f"Dropped by step {(opened.step or 0) + 1}.")


def _content(text: str | None) -> RowContents | None:
    return None if text is None else {"messages": None, "text": text, "label": None, "rejected": None}


WORDS = {
    "kept": "The same",
    "changed": "Changed",
    "dropped": "Only in the first",
    "added": "Only in the second",
}
BADGES = {
    "kept": ":green-badge[:material/check: The same]",
    "dropped": ":red-badge[:material/remove: Only in the first]",
    "added": ":blue-badge[:material/add: Only in the second]",
}


def show_compare(dataset: Dataset, family: list[Version]) -> None:
    """Choose two versions of the family; the version before this one and this one at first."""
    names = {version["dataset_id"]: version["name"] for version in family}
    key = f"versions-{dataset['dataset_id']}"
    first, second = _pick_two(dataset, names, key)
    if first == second:
        st.caption("Choose two different versions.")
        return
    fate = st.segmented_control(
        "Rows", FATES, format_func=WORDS.__getitem__, key=f"{key}-fate", label_visibility="collapsed"
    )
    page_key = f"{key}-page-{first}-{second}-{fate}"
    offset = PAGE * (st.session_state.get(page_key, 1) - 1)
    comparison = versions_reads.compare(first, second, fate, PAGE, offset)
    st.html(figures.facts(_facts(comparison["counts"])))
    if not comparison["rows"]:
        st.caption("No row differs." if fate is None else "There is no such row.")
        return
    last = offset + len(comparison["rows"])
    st.caption(f"{offset + 1:,} to {last:,} of {plural(comparison['total'], 'row')}. Select one to read it.")
    rows = [
        RowPair(row["row_id"], row["other_row_id"], row["fate"], row["before"], row["after"])
        for row in comparison["rows"]
    ]
    show_table(
        rows, WORDS, f"{page_key}-table-{offset}", ("First", "Second"), (names[first], names[second]), BADGES
    )
    if comparison["total"] > PAGE:
        st.pagination(-(-comparison["total"] // PAGE), key=page_key)


def _pick_two(dataset: Dataset, names: dict[str, str], key: str) -> tuple[str, str]:
    """The ids of the versions to compare. names: of all versions, by id."""
    ids = list(names)
    here, parent = dataset["dataset_id"], dataset["parent_id"]
    start = parent if parent and parent in names else here
    end = here if start != here else next(other for other in ids if other != here)
    first_at, second_at = st.columns(2)
    with first_at:
        first = st.selectbox(
            "First", ids, ids.index(start), format_func=names.__getitem__, key=f"{key}-first"
        )
    with second_at:
        second = st.selectbox(
            "Second", ids, ids.index(end), format_func=names.__getitem__, key=f"{key}-second"
        )
    return first, second


def _facts(counts: FateCounts) -> list[tuple[str, str, str]]:
    """Shares are of the version that has the rows."""
    first = counts["kept"] + counts["changed"] + counts["dropped"]
    second = counts["kept"] + counts["changed"] + counts["added"]
    return [
        (title, f"{counts[fate]:,}", f"{quantities.share(counts[fate], n)} of {n:,} rows")
        for fate, title, n in ((f, WORDS[f], second if f == "added" else first) for f in FATES)
    ]
