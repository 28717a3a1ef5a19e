"""From a recipe to a new version: the one button, its progress, and what to do with the new version."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.components import clean_draft, clean_preview, figures, reads
from pages.components.progress import progress_block
from pages.components.session import act, guarded, plain, watch_engine
from store.errors import NotFoundError
from store.states import ALIVE

Document = dict[str, Any]


def next_version(dataset: Document, names: list[str]) -> str:
    """What the engine would call the next version: "Sums v2", or the first number that is free."""
    stem, _, number = dataset["name"].rpartition(" v")
    stem, count = (stem, int(number)) if stem and number.isdigit() else (dataset["name"], 1)
    while True:
        count += 1
        name = f"{stem[: 80 - len(f' v{count}')]} v{count}"
        if name not in names:
            return name


def show_make(dataset: Document, steps: list[Document], answer: Document | None) -> None:
    """The button, with what it would do; `answer` is the preview, None while it is not known."""
    name = next_version(dataset, [row["name"] for row in reads.datasets()])
    number = name.rpartition(" v")[2]
    if answer is not None:
        st.markdown(f"**{clean_preview.summary(answer)}**")
    nothing = answer is not None and clean_preview.rows_left(answer) == 0
    pressed = st.button(
        f"Make version {number}",
        type="primary",
        icon=":material/auto_fix_high:",
        disabled=not steps or nothing,
        width="stretch",
        key="clean-make",
    )
    with st.expander("Name of the new version", icon=":material/edit:"):
        typed = st.text_input(
            "Name", max_chars=80, placeholder=name, key=f"clean-name-{dataset['dataset_id']}"
        )
    if nothing:
        st.caption("No row would be left: take a step out, or change its options.")
    if pressed:
        body = {"dataset": dataset["dataset_id"], "name": typed or "", "recipe": {"steps": steps}}
        made = act("clean", body)
        if made is not None:
            st.session_state[job_key(dataset["dataset_id"])] = made["job_id"]
            st.rerun()


def show_job(dataset: Document, job_id: str) -> None:
    """Progress of the cleaning that was started here, then the new version."""
    try:
        job = reads.job(job_id)
    except NotFoundError:
        st.session_state.pop(job_key(dataset["dataset_id"]), None)
        return
    with st.container(border=True, key="clean-job"):
        if job["status"] in ALIVE:
            _live(job_id)
        elif job["status"] == "finished":
            _made(dataset, job)
        else:
            _ended_badly(dataset, job)


@st.fragment(run_every="1s")
def _live(job_id: str) -> None:
    with guarded():
        watch_engine()
        job = reads.job(job_id)
        if job["status"] not in ALIVE:
            st.cache_data.clear()
            st.rerun()
        st.markdown("**Making the new version**")
        st.html(progress_block(job))
        if st.button("Cancel", key="clean-cancel", icon=":material/stop_circle:"):
            act("cancel", {"job": job_id}, "The cleaning is being cancelled.")


def _made(dataset: Document, job: Document) -> None:
    new_id = f"data-{job['job_id'].removeprefix('job-')}"
    name = str(job["config"].get("name") or "The new version")
    fates = job["result"]["fates"]
    st.success(f"{plain(name)} is made.", icon=":material/check_circle:")
    total = sum(fates[fate] for fate in ("kept", "changed", "dropped"))
    shown = [("Kept", "kept"), ("Changed", "changed"), ("Dropped", "dropped"), ("Added", "added")]
    notes = [f"of {total:,} old rows"] * 3 + ["from another data set"]
    st.html(figures.facts([(t, f"{fates[f]:,}", n) for (t, f), n in zip(shown, notes, strict=True)]))
    with st.container(horizontal=True):
        link = {"dataset": new_id}
        if st.button("Open the new version", type="primary", icon=":material/dataset:", key="clean-open"):
            _forget(dataset["dataset_id"])
            st.switch_page("pages/data_sets.py", query_params=link)
        if st.button("Fine-tune on this", icon=":material/rocket_launch:", key="clean-train"):
            st.switch_page("pages/launch.py", query_params=link)
        st.button(
            "Clean on",
            type="tertiary",
            help="Write another recipe for the old version",
            key="clean-again",
            on_click=_forget,
            args=(dataset["dataset_id"],),
        )


def _ended_badly(dataset: Document, job: Document) -> None:
    error = job.get("error") or {}
    if job["status"] == "cancelled":
        st.info("The cleaning was cancelled. Nothing was stored.", icon=":material/info:")
    else:
        message = error.get("message") or "The process that did it ended without a result."
        fix = f"  \n{plain(error['fix'])}" if error.get("fix") else ""
        st.error(f"{plain(message)}{fix}  \nNothing was stored.", icon=":material/error:")
    st.button(
        "Back to the recipe",
        icon=":material/undo:",
        key="clean-back",
        on_click=st.session_state.pop,
        args=(job_key(dataset["dataset_id"]), None),
    )


def _forget(dataset_id: str) -> None:
    """The recipe did its work: begin a new one."""
    st.session_state.pop(job_key(dataset_id), None)
    clean_draft.put(dataset_id, [])


def job_key(dataset_id: str) -> str:
    """Where the session keeps the job that makes a version of this data set."""
    return f"clean-job-{dataset_id}"
