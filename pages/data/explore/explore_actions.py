"""What a filter can become: rows to drop or to keep, a named slice, a file."""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.rows import clean_draft, explore_filter
from pages.data.rows.saved_things import save_unseen, share_switch
from pages.people.owner_words import owner_words
from pages.shared import reads
from pages.shared.progress_bar import show_bad_end, show_live
from pages.shared.session import act, current_person, plain
from store.config.data.data_config import ExportFormat
from store.config.data.filters import Filter
from store.contract.states import ALIVE
from store.documents.data.export_result import ExportResult
from store.queries.data.explore import DatasetTable
from store.queries.data.saved import keeps
from store.words.recipe_words import words

FORMATS = {
    "messages": "JSONL of messages (OpenAI)",
    "prompt_completion": "JSONL of prompt and completion",
    "alpaca": "JSON (Alpaca)",
    "sharegpt": "JSON (ShareGPT)",
    "csv": "CSV",
    "parquet": "Parquet",
}


def show_actions(rows: DatasetTable, where: Filter, row_count: int) -> None:
    """The buttons over the table; the first three need a filter."""
    dataset_id = rows.dataset["dataset_id"]
    if where and row_count:
        total = rows.dataset["row_count"]
        _step(
            dataset_id,
            where,
            "drop",
            f"Drop these {row_count:,}",
            ":material/delete_sweep:",
            row_count == total,
        )
        _step(dataset_id, where, "keep", "Keep only these", ":material/filter_list:", row_count == total)
        _save(dataset_id, where)
    _slices(dataset_id)
    if row_count:
        _export(rows, where, row_count)


def _step(dataset_id: str, where: Filter, action: str, label: str, icon: str, all_rows: bool) -> None:
    document = {"step": "filter", "where": where.model_dump(exclude_defaults=True), "action": action}
    added = clean_draft.holds(dataset_id, [document])
    pressed = st.button(
        "In the recipe" if added else label,
        icon=":material/check:" if added else icon,
        key=f"explore-{action}-{dataset_id}",
        disabled=added or all_rows,
        help="Every row is in the filter" if all_rows else "Adds a step to the recipe under Clean",
    )
    if pressed:
        clean_draft.add(dataset_id, [document])
        verb = "Drop" if action == "drop" else "Keep only"
        count = len(clean_draft.steps(dataset_id))
        st.toast(
            f"{verb} rows where {plain(words(where))}: in the recipe under Clean ({plural(count, 'step')}).",
            icon=":material/check:",
        )
        st.rerun()


def _save(dataset_id: str, where: Filter) -> None:
    with st.popover("Save as slice", icon=":material/bookmark_add:"):
        name = st.text_input("Name of the slice", max_chars=80, key=f"slice-name-{dataset_id}")
        shared = st.toggle("Shared with everybody", value=True, key=f"slice-shared-{dataset_id}")
        pressed = st.button("Save", type="primary", key=f"slice-save-{dataset_id}", disabled=not name)
        body = {
            "dataset": dataset_id,
            "name": (name or "").strip(),
            "where": where.model_dump(),
            "shared": shared,
        }
        slices = reads.slices(dataset_id, current_person()["person_id"])
        save_unseen("save_slice", body, slices, "The slice is saved.", f"slice-{dataset_id}", pressed=pressed)


def _slices(dataset_id: str) -> None:
    slices = reads.slices(dataset_id, current_person()["person_id"])
    if not slices:
        return
    with st.popover(f"Slices ({len(slices)})", icon=":material/bookmarks:"):
        for place, kept in enumerate(slices):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.button(
                    plain(" · ".join([kept["name"], *owner_words(kept)])),
                    key=f"slice-apply-{dataset_id}-{place}",
                    on_click=explore_filter.change,
                    args=(dataset_id, Filter.parse(kept["filter"])),
                    help=plain(words(Filter.parse(kept["filter"]))),
                )
                whole = {"dataset": dataset_id, "where": kept["filter"]}
                share_switch("save_slice", whole, kept, f"slice-{kept['slice_id']}")
                forget = st.button(
                    "Forget",
                    type="tertiary",
                    icon=":material/delete:",
                    key=f"slice-forget-{dataset_id}-{place}",
                    disabled=not keeps(kept, current_person()),
                )
            body = {"dataset": dataset_id, "name": kept["name"], "slice_id": kept["slice_id"]}
            if forget and act("delete_slice", body, "The slice is forgotten.") is not None:
                st.rerun()


def _export(rows: DatasetTable, where: Filter, row_count: int) -> None:
    dataset_id = rows.dataset["dataset_id"]
    job_key = f"export-job-{dataset_id}"
    with st.popover("Export", icon=":material/download:"):
        st.caption(f"{plural(row_count, 'row')}: {plain(words(where))}")
        chosen = st.selectbox(
            "Format",
            get_args(ExportFormat),
            format_func=FORMATS.__getitem__,
            key=f"export-format-{dataset_id}",
        )
        if st.button("Write the file", type="primary", key=f"export-{dataset_id}"):
            body = {"dataset": dataset_id, "format": chosen, "where": where.model_dump(exclude_defaults=True)}
            answer = act("export", body)
            if answer is not None:
                st.session_state[job_key] = answer["job_id"]
        if st.session_state.get(job_key):
            _exported(st.session_state[job_key])


def _exported(job_id: str) -> None:
    """Progress while the file is being written, then the file."""
    job = reads.job(job_id)
    if job["status"] in ALIVE:
        show_live(job_id, "export")
    elif job["status"] == "finished":
        _download(cast(ExportResult, job["result"]))  # of a finished job of this kind
    else:
        show_bad_end(job, "export")


def _download(result: ExportResult) -> None:
    path = Path(result["path"])
    st.caption(f"{plural(result['rows'], 'row')} in {plain(str(path))}")
    if not path.is_file():
        st.warning("The file is not there any more. Export again.", icon=":material/warning:")
        return
    st.download_button("Download", data=path.read_bytes, file_name=path.name, icon=":material/download:")
