"""The list of data sets, and the page of one: summary figures, card, and tabs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import streamlit as st

from pages.data.cleaning.preview import count_rows_before
from pages.data.cleaning.tab import show_clean
from pages.data.explore.row_filter import CLEAN_TAB, ROWS_TAB, SPLIT_TAB, SUMMARY_TAB, open_tab, tabs_key
from pages.data.explore.summary import needs_cleaning, show_card
from pages.data.explore.table import show_rows
from pages.data.similarity.map import show_map
from pages.data.split import show_split
from pages.data.tokenization import show_rendering
from pages.data.version_history import show_versions
from pages.people import activity_feed
from pages.people.activity_feed import draw_recent_activity
from pages.people.edit_conflicts import FieldEdit
from pages.shared import cached_queries, display, meters
from pages.shared.features import list_parts
from pages.shared.session import escape_markdown, has_right, send_command, show_errors
from pages.shared.text_display import shorten_middle
from store.core.formatting import plural
from store.core.row_schemas import ImportStats
from store.data.formats import FORMATS, is_intended_skip
from store.data.schemas import Dataset, SkippedRow

LIST_PAGE = 20
EMPTY = (
    "\nNo data sets yet. Import a file with prompts and answers, texts with labels, conversations or plain"
    " text; or\nrun the sample experiment from the overview, which includes its own data.\n"
)


def draw_back_to_list() -> None:
    """Draw a button back to the list of data sets."""
    if st.button("All data sets", type="tertiary", icon=":material/arrow_back:", key="datasets-back"):
        st.switch_page("pages/data/data.py")


def show_list() -> None:
    """Draw all data sets, newest first, with a search by name."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("Data sets", anchor=False, width="content")
        if has_right("work") and st.button(
            "Import data set", type="primary", icon=":material/upload_file:", key="import-open"
        ):
            st.switch_page("pages/data/data.py", query_params={"view": "import"})
    datasets = cached_queries.list_datasets()
    if not datasets:
        st.markdown(EMPTY)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        search = st.text_input(
            "Search",
            key="datasets-search",
            type="search",
            live="300ms",
            placeholder="Search by name",
            label_visibility="collapsed",
            icon=":material/search:",
        )
        mine = activity_feed.draw_own_items_switch("dataset", "datasets_mine")
    wanted = (search or "").strip().lower()
    matching = [
        row for row in datasets if wanted in row.name.lower() and (not mine or row.created_by == mine)
    ]
    pages = max(1, -(-len(matching) // LIST_PAGE))
    slot = st.container(gap="xsmall")
    page = st.pagination(pages, key=f"datasets-page-{wanted}-{mine}") if pages > 1 else 1
    with slot:
        total = plural(len(datasets), "data set")
        st.caption(f"{len(matching):,} of {total}" if wanted or mine else total)
        for row in matching[(page - 1) * LIST_PAGE : page * LIST_PAGE]:
            _draw_dataset_line(row)


def _draw_dataset_line(row: Dataset) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center", gap="small"):
        with st.container(gap=None):
            if st.button(f"**{escape_markdown(row.name)}**", type="tertiary", key=f"open-{row.dataset_id}"):
                st.switch_page("pages/data/data.py", query_params={"dataset": row.dataset_id})
            st.caption(_format_search_text(row))
        if has_right("work"):
            st.page_link(
                "pages/training/launch.py",
                label="Fine-tune",
                icon=":material/rocket_launch:",
                query_params={"dataset": row.dataset_id},
            )


def _format_search_text(row: Dataset) -> str:
    parts = [plural(row.row_count, "row")]
    parts += [f"{row.skipped_count:,} skipped"] if row.skipped_count else []
    parts += [f"{row.duplicate_count:,} repeated"] if row.duplicate_count else []
    maker = activity_feed.describe_creator(row.created_by)
    by = [f"by {escape_markdown(maker)}"] if maker else []
    return " · ".join([*parts, FORMATS[row.format].title, *by, display.format_ago(row.created_at)])


NAMED = 22  # characters of a label that fit below a figure


def show_facts(dataset: Dataset) -> None:
    """Draw the summary figures; all but the creator's name are known from the import or the cleaning."""
    st.html(meters.render_heading(list_facts(dataset, activity_feed.describe_creator(dataset.created_by))))


def list_facts(dataset: Dataset, maker: str = "") -> list[tuple[str, str, str]]:
    """Return (title, value, note) of each figure; maker: name of the creator if it is to be shown."""
    stats, rows = dataset.stats, dataset.row_count
    repeated = dataset.duplicate_count
    tiles = [
        ("Rows", f"{rows:,}", _describe_origin(dataset)),
        ("Repeated rows", f"{repeated:,}", describe_repeats(stats, repeated)),
        ("Format", FORMATS[dataset.format].title, display.format_size(dataset.source_bytes)),
    ]
    if characters := stats.get("characters"):
        note = f"median; 5% are over {characters['p95']:,.0f}"
        tiles.append(("Length of a row", f"{characters['median']:,.0f} characters", note))
    if stats.get("labels"):
        first, most = next(iter(stats["labels"].items()))
        note = f"most: {shorten_middle(first, NAMED)} ({display.format_share(most, rows)})"
        tiles.append(("Labels", f"{stats['label_count']:,}", note))
    made = "Made" if dataset.fates else "Imported"
    version = f"{f'by {maker}, ' if maker else ''}version {dataset.fingerprint[:8]}"
    return [*tiles, (made, display.format_ago(dataset.created_at), version)]


def describe_repeats(stats: ImportStats, repeated: int) -> str:
    """Describe what the number of repeated rows counts.

    These are exact duplicates; in data sets of older imports, rows equal except for case and spacing.
    """
    counted = stats.get("duplicates")
    if counted is None:
        return "same as an earlier row except for case and spacing" if repeated else "none"
    more = counted["folded"] - counted["exact"]
    alike = f"{more:,} more except for case and spacing" if more else ""
    same = "exactly as an earlier row" if counted["exact"] else "no exact duplicates" if more else "none"
    return f"{same}; {alike}" if alike else same


def _describe_origin(dataset: Dataset) -> str:
    """Describe the number of rows in the file, or in the version that a recipe cleaned."""
    if fates := dataset.fates:
        old = count_rows_before(fates)
        added = f", {fates.added:,} added" if fates.added else ""
        return f"{dataset.row_count - fates.added:,} of {old:,} in the version before{added}"
    skipped = dataset.skipped_count
    of = f"{dataset.row_count + skipped:,} in the file"
    return f"of {of}, {skipped:,} skipped" if skipped else "every row of the file"


SKIPPED_PAGE = 20


def show_skipped(dataset: Dataset) -> None:
    """Draw a summary of the skipped rows, the reasons, and a page of the rows."""
    total, dataset_id = dataset.skipped_count, dataset.dataset_id
    if not total:
        st.caption(
            "No rows were skipped: a recipe created this version from imported rows."
            if dataset.fates
            else "Every row of the file was read."
        )
        return
    of = total + dataset.row_count
    reasons = sorted(dataset.stats.get("skipped_reasons", {}).items(), key=lambda pair: -pair[1])
    meant = sum(count for reason, count in reasons if is_intended_skip(reason))
    advice = "The recipe could not read them." if dataset.fates else "Fix the file and import it again."
    if meant:
        which = "It is" if total == 1 else f"{meant:,} of them are" if meant < total else "All are"
        advice = f"{which} expected."
    st.markdown(f"**{total:,} of {plural(of, 'row')}** {'was' if total == 1 else 'were'} skipped. {advice}")
    st.markdown("\n".join(f"- {count:,} × {escape_markdown(reason)}" for reason, count in reasons))
    pages = -(-total // SKIPPED_PAGE)
    slot = st.container(gap="xsmall")
    page = st.pagination(pages, key=f"skipped-page-{dataset_id}") if pages > 1 else 1
    rows = cached_queries.list_skipped_rows(dataset_id, SKIPPED_PAGE, (page - 1) * SKIPPED_PAGE)
    with slot:
        first = SKIPPED_PAGE * (page - 1)
        st.caption(f"{first + 1:,} to {first + len(rows):,} of {total:,}. Select a row to see its full text.")
        _draw_skipped_table(rows, f"skipped-{dataset_id}-{page}")


def _draw_skipped_table(rows: list[SkippedRow], key: str) -> None:
    event = st.dataframe(
        [vars(row) for row in rows],
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=key,
        column_order=("line", "reason", "excerpt"),
        column_config={
            "line": st.column_config.NumberColumn("Line", width=70, format="localized"),
            "reason": st.column_config.TextColumn("Why", width=220),
            "excerpt": st.column_config.TextColumn("Content", width="large"),
        },
        height="content",
        alt="Skipped rows with line number and reason",
    )
    for at in event.selection.rows[:1]:
        st.caption(escape_markdown(f"Line {rows[at].line:,}: {rows[at].reason}"))
        st.code(rows[at].excerpt, None, wrap_lines=True)


Tab = tuple[str, Callable[[Dataset], None]]


def show_dataset(dataset: Dataset) -> None:
    """Draw the page of one data set."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title(escape_markdown(dataset.name), anchor=False, width="content")
        likely: Literal["primary", "secondary"] = "secondary" if needs_cleaning(dataset) else "primary"
        if has_right("work") and st.button("Fine-tune on this", type=likely, icon=":material/rocket_launch:"):
            st.switch_page("pages/training/launch.py", query_params={"dataset": dataset.dataset_id})
    draw_back_to_list()
    show_facts(dataset)
    for draw in list_parts(lambda feature: feature.draw_dataset_origin):
        draw(dataset)
    key = tabs_key(dataset.dataset_id)
    if key not in st.session_state and {"row", "filter"} & set(st.query_params):
        open_tab(dataset.dataset_id, ROWS_TAB)  # the link points to rows
    if st.query_params.pop("tab", "") == "split":
        open_tab(dataset.dataset_id, SPLIT_TAB)
    tabs: tuple[Tab, ...] = (
        (SUMMARY_TAB, show_card),
        (ROWS_TAB, show_rows),
        (":material/scatter_plot: Map", show_map),
        (CLEAN_TAB, show_clean),
        (":material/visibility: Model view", show_rendering),
        (":material/account_tree: Versions", show_versions),
        (SPLIT_TAB, show_split),
        (f":material/block: Skipped ({dataset.skipped_count:,})", show_skipped),
        (":material/settings: Settings", _draw_settings),
    )
    titles = [title for title, _ in tabs]
    opened = st.tabs(titles, key=key, on_change="rerun")
    for tab, (_, draw) in zip(opened, tabs, strict=True):
        if tab.open:
            with tab, show_errors():
                draw(dataset)


def _draw_settings(dataset: Dataset) -> None:
    dataset_id = dataset.dataset_id
    edit = FieldEdit(f"rename-{dataset_id}", {"name": dataset.name})
    with st.form(f"rename-{dataset_id}", border=False):
        name = st.text_input("Name", edit.seen["name"], max_chars=80, key=edit.widget_key("name"))
        renamed = st.form_submit_button("Rename", icon=":material/edit:")
    typed = {"name": (name or "").strip()}
    mine = edit.take_mine({"name": "Name"}, typed)
    body, changed = {"dataset": dataset_id}, bool(edit.changed(typed))
    if (renamed or mine) and changed and edit.save("rename_dataset", body, typed, "Renamed."):
        st.rerun()
    st.space("small")
    draw_recent_activity("dataset", dataset_id)
    st.space("small")
    st.markdown("**Delete this data set**")
    st.caption(
        "Its rows and their comments are deleted from this machine. A data set used by a run can't be "
        "deleted."
    )
    sure = st.checkbox("I want to delete it permanently", key=f"delete-sure-{dataset_id}")
    pressed = st.button("Delete", icon=":material/delete:", disabled=not sure, key=f"delete-{dataset_id}")
    if pressed and send_command("delete_dataset", {"dataset": dataset_id}, "Data set deleted.") is not None:
        st.switch_page("pages/data/data.py")
