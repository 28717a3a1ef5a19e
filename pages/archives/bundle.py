"""Creation and download of the bundle of a finished run."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.shared import cached_queries, display
from pages.shared.job_progress import show_failure, show_live
from pages.shared.session import escape_markdown, live, send_command
from store.archives.schemas import BundleResult
from store.core.documents import parse_document
from store.core.job_kinds import ALIVE
from store.runs.schemas import Run


def draw_bundle(run: Run) -> None:
    """Draw the form that creates the bundle of a finished run, then its download."""
    run_id = run.run_id
    job_key = f"bundle-job-{run_id}"
    with_rows = st.checkbox(
        "Include rows",
        value=True,
        key=f"bundle-rows-{run_id}",
        help="Without them, reproducing the run requires the same data set.",
    )
    if st.button(
        "Create bundle",
        icon=":material/deployed_code_update:",
        key="run-bundle",
        help="Config, rows, split, versions and metrics in one file, to reproduce the run on any machine",
    ):
        answer = send_command("bundle", {"run": run_id, "with_rows": with_rows})
        if answer is not None:
            st.session_state[job_key] = answer["job_id"]
    if st.session_state.get(job_key):
        _draw_bundle_result(st.session_state[job_key])


def _draw_bundle_result(job_id: str) -> None:
    job = cached_queries.read_job(job_id)
    if job.status in ALIVE:
        live("1s")(show_live)(job_id, "bundle")
    elif job.status == "finished":
        _draw_download(parse_document(BundleResult, job.result))  # result of a finished bundle job
    else:
        show_failure(job, "bundle")


def _draw_download(result: BundleResult) -> None:
    path = Path(result.path)
    for notice in result.notices:
        st.caption(escape_markdown(notice))
    if not path.is_file():
        st.warning("The bundle file no longer exists. Create the bundle again.", icon=":material/warning:")
        return
    if fingerprint := result.seal:
        st.caption(
            "Bundle fingerprint. Share it with the recipient, who sees the same fingerprint when opening"
            " the file."
        )
        st.code(fingerprint, language=None)
    st.download_button(
        f"Download bundle ({display.format_size(result.bytes)})",
        data=path.read_bytes,
        file_name=path.name,
        icon=":material/download:",
        type="primary",
        key="run-bundle-download",
    )
