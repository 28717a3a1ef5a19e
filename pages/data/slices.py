"""Actions on a filter: drop or keep its rows, save it as a named slice, export it; and the slice selector
used by other pages.

Saving under an existing name replaces only the version that the page has read; if somebody has changed it
since, the person decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import streamlit as st

from pages.data.cleaning import draft
from pages.data.explore import row_filter
from pages.people.activity_feed import describe_owner
from pages.shared import cached_queries
from pages.shared.features import list_parts
from pages.shared.job_progress import show_failure, show_live
from pages.shared.session import (
    escape_markdown,
    get_client,
    get_current_person,
    send_command,
    show_error,
)
from store.core.errors import ConflictError, TunebenchError
from store.core.formatting import plural
from store.core.job_kinds import ALIVE
from store.data.cleaning_text import describe_filter
from store.data.config import ExportFormat
from store.data.exploration import DatasetTable
from store.data.filters import Filter
from store.data.saved_recipes import can_edit, find_own, is_own
from store.data.schemas import ExportResult, SavedItem


def draw_share_switch(command: str, body: Mapping[str, Any], row: SavedItem, key: str) -> None:
    """Draw a switch that shares one's own item with others; `body`: the item, which is saved again."""
    person = get_current_person()
    if not is_own(row, person):
        return
    widget = f"{key}-shared-{row.revision}"  # a new widget per revision; after a refusal it stays unchanged
    st.toggle("Shared", row.shared, key=widget, on_change=_confirm_switch, args=(f"{widget}-asked",))
    if not st.session_state.pop(f"{widget}-asked", False):
        return
    body = {**body, "name": row.name, "shared": not row.shared, "seen": row.revision}
    done = "Only you can see it." if row.shared else "Everyone can see it."
    if send_command(command, body, done) is not None:
        st.rerun()


def _confirm_switch(key: str) -> None:
    """Callback: record that the switch was pressed."""
    st.session_state[key] = True


def save_named(
    command: str, body: Mapping[str, Any], rows: Sequence[SavedItem], done: str, key: str, *, pressed: bool
) -> None:
    """Save under `body["name"]` and rerun the page.

    `rows`: the present items; those of the previous page run are what the person has seen. If an item has
    changed since, the person chooses whether to overwrite it.
    """
    own = [row for row in rows if find_own(rows, row.name, get_current_person()) is row]
    revisions = {row.name: row.revision for row in own}
    seen = st.session_state.get(f"{key}-seen", revisions)
    conflict: tuple[str, str] | None = st.session_state.get(f"{key}-conflict")
    if conflict and conflict[0] == body["name"]:
        st.warning(escape_markdown(conflict[1]), icon=":material/group:")
        with st.container(horizontal=True):
            st.button("Keep theirs", key=f"{key}-theirs", on_click=_clear_conflict, args=(key,))
            pressed = st.button("Overwrite", type="primary", key=f"{key}-mine")
    st.session_state[f"{key}-seen"] = revisions
    if not pressed:
        return
    try:
        get_client().command(command, {**body, "seen": seen.get(body["name"], 0)})
    except ConflictError as error:
        st.session_state[f"{key}-conflict"] = body["name"], error.message
    except TunebenchError as error:
        show_error(error)
        return
    else:
        st.toast(done, icon=":material/check:")
        _clear_conflict(key)
    st.cache_data.clear()
    st.rerun()


def _clear_conflict(key: str) -> None:
    """Callback: clear the conflict."""
    st.session_state.pop(f"{key}-conflict", None)
    st.session_state.pop(f"{key}-seen", None)


def draw_slice_choice(dataset_id: str, key: str) -> Filter | None:
    """Draw the slice selector; return None for all rows. Without slices, explain how to create one."""
    slices = {
        row.slice_id: row for row in cached_queries.list_slices(dataset_id, get_current_person().person_id)
    }
    if not slices:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.caption(
                "Uses all rows. To use only some, filter the rows of the data set and save the filter as "
                "a slice; you can then select it here.",
                width="content",
            )
            st.page_link(
                "pages/data/data.py",
                label="Filter its rows",
                icon=":material/filter_alt:",
                query_params={"dataset": dataset_id, "filter": "{}"},  # opens the Rows tab
                width="content",
            )
        return None
    chosen = st.selectbox(
        "Rows",
        ["", *slices],
        format_func=lambda own: (
            " · ".join([slices[own].name, *describe_owner(slices[own])]) if own else "All rows"
        ),
        key=f"{key}.{dataset_id}",
        help="A slice is a named filter, saved on the data set's page.",
    )
    if not chosen:
        return None
    where = Filter.parse(slices[chosen].filter)
    st.caption(f":material/filter_alt: Only rows where {escape_markdown(describe_filter(where))}.")
    return where


FORMATS = {
    "messages": "JSONL of messages (OpenAI)",
    "prompt_completion": "JSONL of prompt and completion",
    "alpaca": "JSON (Alpaca)",
    "sharegpt": "JSON (ShareGPT)",
    "csv": "CSV",
    "parquet": "Parquet",
}


def show_actions(rows: DatasetTable, where: Filter, row_count: int) -> None:
    """Draw the buttons above the table; the first three require a filter."""
    dataset_id = rows.dataset.dataset_id
    if where and row_count:
        total = rows.dataset.row_count
        _draw_filter_step(
            dataset_id,
            where,
            "drop",
            f"Drop these {row_count:,}",
            ":material/delete_sweep:",
            row_count == total,
        )
        _draw_filter_step(
            dataset_id, where, "keep", "Keep only these", ":material/filter_list:", row_count == total
        )
        _draw_save(dataset_id, where)
    _draw_slices(dataset_id)
    if row_count:
        _draw_export(rows, where, row_count)


def _draw_filter_step(
    dataset_id: str, where: Filter, action: str, label: str, icon: str, all_rows: bool
) -> None:
    document = {"step": "filter", "where": where.model_dump(exclude_defaults=True), "action": action}
    added = draft.has_steps(dataset_id, [document])
    pressed = st.button(
        "In the recipe" if added else label,
        icon=":material/check:" if added else icon,
        key=f"explore-{action}-{dataset_id}",
        disabled=added or all_rows,
        help="The filter matches every row" if all_rows else "Adds a step to the recipe on the Clean tab",
    )
    if pressed:
        draft.append_steps(dataset_id, [document])
        verb = "Drop" if action == "drop" else "Keep only"
        count = len(draft.get_steps(dataset_id))
        st.toast(
            f"{verb} rows where {escape_markdown(describe_filter(where))}: in the recipe under"
            f" Clean ({plural(count, 'step')}).",
            icon=":material/check:",
        )
        st.rerun()


def _draw_save(dataset_id: str, where: Filter) -> None:
    with st.popover("Save as slice", icon=":material/bookmark_add:"):
        name = st.text_input("Name of the slice", max_chars=80, key=f"slice-name-{dataset_id}")
        shared = st.toggle("Share with everyone", value=True, key=f"slice-shared-{dataset_id}")
        pressed = st.button("Save", type="primary", key=f"slice-save-{dataset_id}", disabled=not name)
        body = {
            "dataset": dataset_id,
            "name": (name or "").strip(),
            "where": where.model_dump(),
            "shared": shared,
        }
        slices = cached_queries.list_slices(dataset_id, get_current_person().person_id)
        save_named("save_slice", body, slices, "Slice saved.", f"slice-{dataset_id}", pressed=pressed)


def _draw_slices(dataset_id: str) -> None:
    slices = cached_queries.list_slices(dataset_id, get_current_person().person_id)
    if not slices:
        return
    with st.popover(f"Slices ({len(slices)})", icon=":material/bookmarks:"):
        for place, kept in enumerate(slices):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.button(
                    escape_markdown(" · ".join([kept.name, *describe_owner(kept)])),
                    key=f"slice-apply-{dataset_id}-{place}",
                    on_click=row_filter.set_filter,
                    args=(dataset_id, Filter.parse(kept.filter)),
                    help=escape_markdown(describe_filter(Filter.parse(kept.filter))),
                )
                whole = {"dataset": dataset_id, "where": kept.filter}
                draw_share_switch("save_slice", whole, kept, f"slice-{kept.slice_id}")
                for draw in list_parts(lambda feature: feature.draw_slice_use):
                    draw(dataset_id, kept.slice_id)
                forget = st.button(
                    "Delete",
                    type="tertiary",
                    icon=":material/delete:",
                    key=f"slice-forget-{dataset_id}-{place}",
                    disabled=not can_edit(kept, get_current_person()),
                )
            body = {"dataset": dataset_id, "name": kept.name, "slice_id": kept.slice_id}
            if forget and send_command("delete_slice", body, "Slice deleted.") is not None:
                st.rerun()


def _draw_export(rows: DatasetTable, where: Filter, row_count: int) -> None:
    dataset_id = rows.dataset.dataset_id
    job_key = f"export-job-{dataset_id}"
    with st.popover("Export", icon=":material/download:"):
        st.caption(f"{plural(row_count, 'row')}: {escape_markdown(describe_filter(where))}")
        chosen = st.selectbox(
            "Format",
            get_args(ExportFormat),
            format_func=FORMATS.__getitem__,
            key=f"export-format-{dataset_id}",
        )
        if st.button("Export", type="primary", key=f"export-{dataset_id}"):
            body = {"dataset": dataset_id, "format": chosen, "where": where.model_dump(exclude_defaults=True)}
            answer = send_command("export", body)
            if answer is not None:
                st.session_state[job_key] = answer["job_id"]
        if st.session_state.get(job_key):
            _draw_export_result(st.session_state[job_key])


def _draw_export_result(job_id: str) -> None:
    """Draw the progress of the export, then the download button."""
    job = cached_queries.read_job(job_id)
    if job.status in ALIVE:
        show_live(job_id, "export")
    elif job.status == "finished":
        _draw_download(cast(ExportResult, job.result))  # result of a finished export
    else:
        show_failure(job, "export")


def _draw_download(result: ExportResult) -> None:
    path = Path(result["path"])
    st.caption(f"{plural(result['rows'], 'row')} in {escape_markdown(str(path))}")
    if not path.is_file():
        st.warning("The file no longer exists. Export again.", icon=":material/warning:")
        return
    st.download_button("Download", data=path.read_bytes, file_name=path.name, icon=":material/download:")
