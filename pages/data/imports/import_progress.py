"""An import under way, and its account when it is done: every row of the file read, or skipped and why."""

from __future__ import annotations

from typing import cast

import streamlit as st

from pages.data.imports.import_recognised import PARTS, say_columns
from pages.data.rows.dataset_facts import repeats_words, show_skipped
from pages.data.rows.dataset_list import back_to_list
from pages.shared import figures, reads
from pages.shared.progress_bar import show_bad_end, show_live
from pages.shared.session import plain
from store.contract.states import ALIVE
from store.documents.data.import_result import ImportResult, RowsResult
from store.documents.tables.job import Job


def show_import_job(job_id: str) -> None:
    """The job's progress while it lives, then its result with the next step."""
    job = reads.job(job_id)
    name = plain(_name(job))
    st.title(f"Importing {name}" if job["status"] in ALIVE else name, anchor=False)
    back_to_list()
    if job["status"] in ALIVE:
        show_live(job_id, "import")
    elif job["status"] == "finished":
        show_account(job)
    else:
        show_bad_end(job, "import")
        _import_again()


def show_account(job: Job) -> None:
    """Rows read, skipped and repeated, with the data set's page and a first run one click away."""
    result = cast(ImportResult, job["result"])  # of a finished job of this kind
    st.success("The rows are in the store.", icon=":material/check_circle:")
    st.html(figures.facts(account(result)))
    stats = result["stats"]
    say_columns(
        result["format"],
        result["columns"],
        stats.get("answers"),
        stats.get("values", {}),
        stats.get("ignored", []),
        stats.get("ignored_count"),
        stats.get("left_out"),
    )
    dataset = next((row for row in reads.datasets() if row["name"] == _name(job)), None)
    if dataset:
        with st.container(horizontal=True):
            if st.button("See what is in it", type="primary", icon=":material/troubleshoot:"):
                st.switch_page("pages/data/data.py", query_params={"dataset": dataset["dataset_id"]})
            if st.button("Fine-tune on this", icon=":material/rocket_launch:"):
                st.switch_page("pages/launch/launch.py", query_params={"dataset": dataset["dataset_id"]})
        if result["skipped_count"]:
            show_skipped(dataset)


def account(result: RowsResult) -> list[tuple[str, str, str]]:
    """The counts of an import or a data set as figures."""
    read, skipped = result["row_count"], result["skipped_count"]
    counts = [
        ("Rows read", f"{read:,}", f"of {read + skipped:,} in the file"),
        ("Rows skipped", f"{skipped:,}", "each with its reason" if skipped else "none"),
        ("Repeated rows", f"{result['duplicate_count']:,}", repeats_words(result)),
    ]
    parts = result["stats"].get("parts", {})
    given = [(title, parts[part]) for part, title in PARTS.items() if part in parts]
    return [*counts, *((title, f"{rows:,}", "as the file says") for title, rows in given)]


def _import_again() -> None:
    if st.button("Import again", type="primary", icon=":material/upload_file:"):
        st.switch_page("pages/data/data.py", query_params={"view": "import"})


def _name(job: Job) -> str:
    return str(job["config"].get("name") or job["title"])
