"""The line of figures over all tabs of a data set: rows, format, length, labels, and where it is from.

The rows of the file that were not read: reasons counted, then line by line as they stand there.
"""

from __future__ import annotations

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.rows.fate_counts import rows_before
from pages.people import activity_reads
from pages.shared import figures, quantities, reads
from pages.shared.conversation import shortened_middle
from pages.shared.session import plain
from store.catalog.formats import FORMATS
from store.catalog.left_out import is_meant
from store.documents.data.import_result import RowsResult
from store.documents.tables.dataset import Dataset, SkippedRow

NAMED = 22  # characters of a label that fit under a figure


def show_facts(dataset: Dataset) -> None:
    """Everything here is known from the import or the cleaning, but the name of who made it."""
    st.html(figures.heading(facts(dataset, activity_reads.maker(dataset["created_by"]))))


def facts(dataset: Dataset, maker: str = "") -> list[tuple[str, str, str]]:
    """(title, value, note) of each figure; maker: the name of who made it, where that is to be told."""
    stats, rows = dataset["stats"], dataset["row_count"]
    repeated = dataset["duplicate_count"]
    tiles = [
        ("Rows", f"{rows:,}", _whence(dataset)),
        ("Repeated rows", f"{repeated:,}", repeats_words(dataset)),
        ("Format", FORMATS[dataset["format"]].title, quantities.size(dataset["source_bytes"])),
    ]
    if characters := stats.get("characters"):
        note = f"median; 5% are over {characters['p95']:,.0f}"
        tiles.append(("Length of a row", f"{characters['median']:,.0f} characters", note))
    if stats.get("labels"):
        first, most = next(iter(stats["labels"].items()))
        note = f"most: {shortened_middle(first, NAMED)} ({quantities.share(most, rows)})"
        tiles.append(("Labels", f"{stats['label_count']:,}", note))
    made = "Made" if dataset["fates"] else "Imported"
    version = f"{f'by {maker}, ' if maker else ''}version {dataset['fingerprint'][:8]}"
    return [*tiles, (made, quantities.ago(dataset["created_at"]), version)]


def repeats_words(dataset: Dataset | RowsResult) -> str:
    """What the number of repeated rows counts: exactly equal ones, in data sets of earlier imports equal ones
    but for case and spacing."""
    counted = dataset["stats"].get("duplicates")
    if counted is None:
        return "same as an earlier row but for case and spacing" if dataset["duplicate_count"] else "none"
    more = counted["folded"] - counted["exact"]
    alike = f"{more:,} more but for case and spacing" if more else ""
    same = "exactly as an earlier row" if counted["exact"] else "none exactly" if more else "none"
    return f"{same}; {alike}" if alike else same


def _whence(dataset: Dataset) -> str:
    """How many rows there were in the file, or in the version that a recipe cleaned."""
    if fates := dataset["fates"]:
        old = rows_before(fates)
        added = f", {fates['added']:,} added" if fates["added"] else ""
        return f"{dataset['row_count'] - fates['added']:,} of {old:,} in the version before{added}"
    skipped = dataset["skipped_count"]
    of = f"{dataset['row_count'] + skipped:,} in the file"
    return f"of {of}, {skipped:,} skipped" if skipped else "every row of the file"


PAGE = 20


def show_skipped(dataset: Dataset) -> None:
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


def _table(rows: list[SkippedRow], key: str) -> None:
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
