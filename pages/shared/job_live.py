"""One job that a person waits for: its progress, a way to stop it, and why it has no result."""

from __future__ import annotations

import streamlit as st

from pages.shared import reads
from pages.shared.progress_bar import progress_block
from pages.shared.session import act, guarded, plain, watch_engine
from store.contract.states import ALIVE
from store.documents.tables.job import Job


@st.fragment(run_every="1s")
def show_live(job_id: str, what: str, title: str = "") -> None:
    """The job while it lives; the page is drawn anew when it ends. `what`: "import", "cleaning", "export"."""
    with guarded():
        watch_engine()
        job = reads.job(job_id)
        if job["status"] not in ALIVE:
            st.cache_data.clear()
            st.rerun()
        if title:
            st.markdown(f"**{title}**")
        st.html(progress_block(job))
        if st.button(f"Cancel the {what}", key=f"{what}-cancel", icon=":material/stop_circle:"):
            act("cancel", {"job": job_id}, f"The {what} is being cancelled.")


def show_bad_end(job: Job, what: str) -> None:
    """Why there is no result, and that nothing was stored."""
    if job["status"] == "cancelled":
        st.info(f"The {what} was cancelled. Nothing was stored.", icon=":material/info:")
        return
    error = job["error"]
    message = (error and error["message"]) or "The process that did it ended without a result."
    fix = f"  \n{plain(error['fix'])}" if error and error.get("fix") else ""
    st.error(f"{plain(message)}{fix}  \nNothing was stored.", icon=":material/error:")
