"""A group of signals that a panel needs and that is not there: a button that measures it, or its progress."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.components import clean_reads, reads
from pages.components.progress import progress_block
from pages.components.session import act, guarded, plain, watch_engine
from store.states import ALIVE


def show_missing(dataset: dict[str, Any], group: str, button: str, why: str) -> None:
    """`why` says what the panel would show and what measuring takes."""
    dataset_id = dataset["dataset_id"]
    if _job(dataset_id, group) is not None:
        _live(dataset_id, group)
        return
    _last_failure(dataset_id, group)
    st.markdown(plain(why))
    pressed = st.button(button, type="primary", icon=":material/speed:", key=f"measure-{group}-{dataset_id}")
    if pressed:
        answer = act("profile", {"dataset": dataset_id, "group": group})
        if answer is not None:
            st.session_state[_key(dataset_id, group)] = answer["job_id"]
            st.rerun()


def _job(dataset_id: str, group: str) -> dict[str, Any] | None:
    """The job that measures the group now, or waits to."""
    return next((j for j in clean_reads.measuring(dataset_id) if j["config"]["group"] == group), None)


def _last_failure(dataset_id: str, group: str) -> None:
    job_id = st.session_state.get(_key(dataset_id, group))
    if job_id is None:
        return
    job = reads.job(job_id)
    error = job.get("error") or {}
    if job["status"] == "failed":
        fix = f"  \n{plain(error['fix'])}" if error.get("fix") else ""
        st.error(f"{plain(error.get('message') or 'It failed.')}{fix}", icon=":material/error:")
    elif job["status"] not in ALIVE and job["status"] != "finished":
        st.info(f"The measuring was {job['status']}.", icon=":material/info:")


@st.fragment(run_every="1s")
def _live(dataset_id: str, group: str) -> None:
    with guarded():
        watch_engine()
        job = _job(dataset_id, group)
        if job is None:
            st.cache_data.clear()
            st.rerun()
            return
        st.markdown(f":material/speed: {plain(job['title'])}")
        st.html(progress_block(job))
        if st.button("Cancel", icon=":material/stop_circle:", key=f"measure-cancel-{group}-{dataset_id}"):
            act("cancel", {"job": job["job_id"]}, "It is being cancelled.")


def _key(dataset_id: str, group: str) -> str:
    return f"measured-{group}-{dataset_id}"
