"""An import under way, and its account when it is done: every row of the file read, or skipped and why."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.components import figures, reads
from pages.components.dataset_list import back_to_list
from pages.components.progress import progress_block
from pages.components.session import act, guarded, plain, watch_engine
from store.states import ALIVE


def show_import_job(job_id: str) -> None:
    """The job's progress while it lives, then its result with the next step."""
    job = reads.job(job_id)
    name = plain(_name(job))
    st.title(f"Importing {name}" if job["status"] in ALIVE else name, anchor=False)
    back_to_list()
    if job["status"] in ALIVE:
        _live(job_id)
    elif job["status"] == "finished":
        show_account(job)
    else:
        _ended_badly(job)


@st.fragment(run_every="1s")
def _live(job_id: str) -> None:
    with guarded():
        watch_engine()
        job = reads.job(job_id)
        if job["status"] not in ALIVE:
            st.cache_data.clear()
            st.rerun()
        st.html(progress_block(job))
        if st.button("Cancel the import", key="import-cancel", icon=":material/stop_circle:"):
            act("cancel", {"job": job_id}, "The import is being cancelled.")


def show_account(job: dict[str, Any]) -> None:
    """Rows read, skipped and repeated, with the data set's page and a first run one click away."""
    result = job["result"]
    st.success("The rows are in the store.", icon=":material/check_circle:")
    st.html(figures.facts(account(result)))
    dataset = next((row for row in reads.datasets() if row["name"] == _name(job)), None)
    if dataset:
        with st.container(horizontal=True):
            if st.button("See what is in it", type="primary", icon=":material/troubleshoot:"):
                st.switch_page("pages/data_sets.py", query_params={"dataset": dataset["dataset_id"]})
            if st.button("Fine-tune on this", icon=":material/rocket_launch:"):
                st.switch_page("pages/launch.py", query_params={"dataset": dataset["dataset_id"]})
        if result["skipped_count"]:
            show_skipped(dataset)


def account(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The counts of an import or a data set as figures."""
    read, skipped = result["row_count"], result["skipped_count"]
    return [
        ("Rows read", f"{read:,}", f"of {read + skipped:,} in the file"),
        ("Rows skipped", f"{skipped:,}", "each with its reason" if skipped else "none"),
        ("Repeated rows", f"{result['duplicate_count']:,}", "same text as an earlier row"),
    ]


def show_skipped(dataset: dict[str, Any]) -> None:
    """The skipped rows: reasons counted, then line by line."""
    reasons = dataset["stats"].get("skipped_reasons", {})
    st.subheader("Skipped rows", anchor=False)
    for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1]):
        st.markdown(f"- {count:,} × {plain(reason)}")
    total, size = dataset["skipped_count"], 20
    pages = -(-total // size)
    page = st.pagination(pages, key=f"skipped-page-{dataset['dataset_id']}") if pages > 1 else 1
    rows = reads.skipped_rows(dataset["dataset_id"], size, (page - 1) * size)
    st.dataframe(
        rows,
        hide_index=True,
        column_order=("line", "reason", "excerpt"),
        column_config={
            "line": st.column_config.NumberColumn("Line", width="small"),
            "reason": st.column_config.TextColumn("Why", width="large"),
            "excerpt": st.column_config.TextColumn("What stands there", width="large"),
        },
        alt="Skipped rows with line number and reason",
    )


def _ended_badly(job: dict[str, Any]) -> None:
    error = job.get("error") or {}
    if job["status"] == "cancelled":
        st.info("The import was cancelled. Nothing was stored.", icon=":material/info:")
    else:
        message = error.get("message") or "The process that did it ended without a result."
        fix = f"  \n{plain(error['fix'])}" if error.get("fix") else ""
        st.error(f"{plain(message)}{fix}  \nNothing was stored.", icon=":material/error:")
    if st.button("Import again", type="primary", icon=":material/upload_file:"):
        st.switch_page("pages/data_sets.py", query_params={"view": "import"})


def _name(job: dict[str, Any]) -> str:
    return str(job["config"].get("name") or job["title"])
