"""What is measured of a data set: which groups can be, what is being measured now, and a button for a group
that a panel needs and that is not there."""

from __future__ import annotations

import streamlit as st

from pages.data.rows import clean_reads
from pages.shared import reads
from pages.shared.progress_bar import progress_block
from pages.shared.session import act, guarded, live, may, plain, redraw, watch_engine
from store.catalog.signals import GROUPS, SignalGroup
from store.contract.states import ALIVE
from store.documents.tables.dataset import Dataset
from store.documents.tables.job import Job


def measurable(dataset: Dataset) -> dict[str, SignalGroup]:
    """The groups that say something of such rows: labels need labels, and difficulty needs answers."""
    without = set() if (dataset["stats"].get("label_count") or 0) > 1 else {"labels"}
    if dataset["kind"] == "text":
        without.add("model")
    return {name: group for name, group in GROUPS.items() if group.needs not in without}


@live("1s")
def show_measuring(dataset_id: str, count: int, group: str = "") -> None:
    """What is being measured, of all groups or of one; the page is drawn anew when it is not `count` jobs."""
    with guarded():
        watch_engine()
        jobs = _jobs(dataset_id, group)
        if len(jobs) != count:
            st.cache_data.clear()
            redraw()
        for job in jobs:
            title = GROUPS[job["config"]["group"]].title
            st.markdown(f":material/straighten: Being measured: **{plain(title)}**")
            st.html(progress_block(job))
            key = f"measure-cancel-{job['job_id']}"
            if may("work") and st.button("Cancel", icon=":material/stop_circle:", type="tertiary", key=key):
                act("cancel", {"job": job["job_id"]}, "It is being cancelled.")


def show_missing(dataset: Dataset, group: str, button: str, why: str) -> None:
    """`why` says what the panel would show and what measuring takes."""
    dataset_id = dataset["dataset_id"]
    if jobs := _jobs(dataset_id, group):
        show_measuring(dataset_id, len(jobs), group)
        return
    _last_failure(dataset_id, group)
    st.markdown(plain(why))
    key = f"measure-{group}-{dataset_id}"
    pressed = may("work") and st.button(button, type="primary", icon=":material/speed:", key=key)
    if pressed:
        answer = act("profile", {"dataset": dataset_id, "group": group})
        if answer is not None:
            st.session_state[_key(dataset_id, group)] = answer["job_id"]
            st.rerun()


def _jobs(dataset_id: str, group: str) -> list[Job]:
    """The jobs that measure the group, or any where it is "", now or wait to."""
    jobs = clean_reads.measuring(dataset_id)
    return [job for job in jobs if group in ("", job["config"]["group"])]


def _last_failure(dataset_id: str, group: str) -> None:
    job_id = st.session_state.get(_key(dataset_id, group))
    if job_id is None:
        return
    job = reads.job(job_id)
    error = job["error"]
    if job["status"] == "failed":
        fix = f"  \n{plain(error['fix'])}" if error and error.get("fix") else ""
        st.error(f"{plain((error and error['message']) or 'It failed.')}{fix}", icon=":material/error:")
    elif job["status"] not in ALIVE and job["status"] != "finished":
        st.info(f"The measuring was {job['status']}.", icon=":material/info:")


def _key(dataset_id: str, group: str) -> str:
    return f"measured-{group}-{dataset_id}"
