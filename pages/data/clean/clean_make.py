"""From a recipe to a new version: the one button, its progress, and what to do with the new version."""

from __future__ import annotations

from typing import cast

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.clean import clean_preview
from pages.data.rows import clean_draft
from pages.data.rows.clean_draft import StepDocument
from pages.data.rows.fate_counts import rows_before, rows_left
from pages.shared import figures, reads
from pages.shared.progress_bar import show_bad_end, show_live
from pages.shared.session import act, plain
from store.contract.errors import NotFoundError
from store.contract.states import ALIVE
from store.documents.data.clean_preview import CleanPreview
from store.documents.data.import_result import CleanResult
from store.documents.tables.dataset import Dataset
from store.documents.tables.job import Job


def next_version(dataset: Dataset, names: list[str]) -> str:
    """What the engine would call the next version: "Sums v2", or the first number that is free."""
    stem, _, number = dataset["name"].rpartition(" v")
    stem, count = (stem, int(number)) if stem and number.isdigit() else (dataset["name"], 1)
    while True:
        count += 1
        name = f"{stem[: 80 - len(f' v{count}')]} v{count}"
        if name not in names:
            return name


def show_make(dataset: Dataset, steps: list[StepDocument], answer: CleanPreview | None) -> None:
    """What the recipe would do and the button that does it; `answer` is the preview, None while unknown."""
    dataset_id = dataset["dataset_id"]
    name = next_version(dataset, [row["name"] for row in reads.datasets()])
    whole = answer is not None and not answer.get("of")
    nothing = whole and answer is not None and rows_left(answer["fates"]) == 0
    summary = f" **{plain(clean_preview.summary(answer))}**" if answer is not None else ""
    st.markdown(f"{plural(len(steps), 'step')} in the [recipe](#recipe).{summary}")
    if answer is not None and not whole:
        st.caption(plain(clean_preview.not_known(answer)))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        pressed = st.button(
            f"Make version {name.rpartition(' v')[2]}",
            type="primary",
            icon=":material/auto_fix_high:",
            disabled=not steps or nothing,
            key="clean-make",
        )
        if answer is not None and not whole:
            st.button(
                "Count on all rows",
                icon=":material/calculate:",
                help="Runs the recipe without keeping anything; takes as long as the cleaning itself",
                key="clean-whole",
                on_click=st.session_state.update,
                args=({whole_key(dataset_id): steps},),
            )
        with st.popover("Name it", icon=":material/edit:", type="tertiary"):
            typed = st.text_input(
                "Name of the new version", max_chars=80, placeholder=name, key=f"clean-name-{dataset_id}"
            )
    if nothing:
        st.caption("No row would be left: take a step out, or change its options.")
    if pressed:
        made = act("clean", {"dataset": dataset_id, "name": typed or "", "recipe": {"steps": steps}})
        if made is not None:
            st.session_state[job_key(dataset_id)] = made["job_id"]
            st.session_state[_preview_key(dataset_id)] = answer
            st.rerun()


def show_job(dataset: Dataset, job_id: str) -> None:
    """Progress of the cleaning that was started here, then the new version."""
    try:
        job = reads.job(job_id)
    except NotFoundError:
        st.session_state.pop(job_key(dataset["dataset_id"]), None)
        return
    with st.container(border=True, key="clean-job"):
        if job["status"] in ALIVE:
            show_live(job_id, "cleaning", "Making the new version")
        elif job["status"] == "finished":
            _made(dataset, job)
        else:
            _ended_badly(dataset, job)


def _made(dataset: Dataset, job: Job) -> None:
    new_id = f"data-{job['job_id'].removeprefix('job-')}"
    name = str(job["config"].get("name") or "The new version")
    fates = cast(CleanResult, job["result"])["fates"]  # of a finished job of this kind
    st.success(f"{plain(name)} is made.", icon=":material/check_circle:")
    old = f"of {rows_before(fates):,} old rows"
    counts = [
        ("Kept", f"{fates['kept']:,}", old),
        ("Changed", f"{fates['changed']:,}", old),
        ("Dropped", f"{fates['dropped']:,}", old),
        ("Added", f"{fates['added']:,}", "from another data set"),
    ]
    st.html(figures.facts(counts))
    answer: CleanPreview | None = st.session_state.get(_preview_key(dataset["dataset_id"]))
    if answer:
        st.caption(clean_preview.beside(answer, fates))
    with st.container(horizontal=True):
        link = {"dataset": new_id}
        if st.button("Open the new version", type="primary", icon=":material/dataset:", key="clean-open"):
            _forget(dataset["dataset_id"])
            st.switch_page("pages/data/data.py", query_params=link)
        if st.button("Fine-tune on this", icon=":material/rocket_launch:", key="clean-train"):
            st.switch_page("pages/launch/launch.py", query_params=link)
        st.button(
            "Clean on",
            type="tertiary",
            help="Write another recipe for the old version",
            key="clean-again",
            on_click=_forget,
            args=(dataset["dataset_id"],),
        )


def _ended_badly(dataset: Dataset, job: Job) -> None:
    show_bad_end(job, "cleaning")
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


def whole_key(dataset_id: str) -> str:
    """Where the session keeps the steps that are to be counted on all rows."""
    return f"clean-whole-{dataset_id}"


def _preview_key(dataset_id: str) -> str:
    """Where the session keeps what the preview said of the version that is being made."""
    return f"clean-said-{dataset_id}"


def job_key(dataset_id: str) -> str:
    """Where the session keeps the job that makes a version of this data set."""
    return f"clean-job-{dataset_id}"
