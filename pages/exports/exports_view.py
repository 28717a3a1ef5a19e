"""Export: in which form should it leave, and is it still the same? The tab of a run, and of a version."""

from __future__ import annotations

from typing import cast

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.exports import exports_reads, exports_table
from pages.exports.exports_form import draw_form
from pages.exports.exports_reads import ExportedModel
from pages.run_parts import run_reads
from pages.shared import quantities
from pages.shared.progress_bar import show_bad_end, show_live
from pages.shared.session import act, guarded, may, plain
from store.contract.errors import NotFoundError
from store.contract.states import ALIVE
from store.documents.shipping.export import ModelExportRow, ModelVerifyResult
from store.documents.shipping.version import ModelVersion
from store.documents.tables.job import Job
from store.words import export_words

QUESTION = "In which form should it leave, and is it still the same model?"


def draw_exports(run_id: str) -> None:
    """The tab of one run."""
    with guarded():
        run = run_reads.run(run_id)
        st.header(QUESTION, anchor=False)
        if run["status"] in ALIVE:
            st.markdown(f"This run is {run['status']}. Once it has ended, its model can be exported.")
            return
        _draw(ExportedModel.of_run(run))


def draw_version_exports(version: ModelVersion) -> None:
    """The tab of a version of a registered model."""
    with guarded():
        st.header(QUESTION, anchor=False)
        run = None
        if version["run_id"]:
            try:
                run = run_reads.run(version["run_id"])
            except NotFoundError:  # a version outlives its run
                run = None
        _draw(ExportedModel.of_version(version, run))


def _draw(model: ExportedModel) -> None:
    rows = exports_reads.of_model(model.run_id, model.model_id, model.version)
    jobs = exports_reads.unfinished(model.subject)
    alive = [job for job in jobs if job["status"] in ALIVE]
    _draw_lead(model, rows)
    if alive:
        with st.container(border=True):
            show_live(alive[0]["job_id"], "export", plain(alive[0]["title"]))
        _draw_waiting(alive[1:])
    newest = max((row["created_at"] for row in rows), default=None)
    ended = [job for job in jobs if job not in alive and (newest is None or job["created_at"] > newest)]
    if ended and not alive:
        show_bad_end(ended[-1], "export")
    if may("work"):
        with st.expander("Export it", expanded=not rows and not alive, icon=":material/output:"):
            draw_form(model, rows)
    if not rows:
        return
    row = exports_table.draw_table(rows)
    with st.container(border=True, key="export-one"):
        exports_table.draw_one(row)
        _draw_verified(model, row)


def _draw_lead(model: ExportedModel, rows: list[ModelExportRow]) -> None:
    """What a reader in a hurry takes with them."""
    if not rows:
        st.markdown(
            "Nothing was exported yet. An export is read back in another process, by another engine where"
            " its form has one, and held against the model that was evaluated: prompts, tokens, answers and"
            " figures."
        )
        return
    best = export_words.recommended(rows)
    icon = ":green[:material/verified:]" if best else ":gray[:material/help:]"
    st.subheader(f"{icon} {plain(export_words.recommendation(rows, model.forms()))}", anchor=False)


def _draw_waiting(jobs: list[Job]) -> None:
    """Exports behind the one at work; each can be taken back."""
    if not jobs:
        return
    with st.expander(f"{plural(len(jobs), 'more export')} after it", icon=":material/schedule:"):
        for job in jobs:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(plain(job["title"]), width="stretch")
                taken = may("work") and st.button("Cancel", key=f"export-cancel-{job['job_id']}")
                if taken and act("cancel", {"job": job["job_id"]}) is not None:
                    st.rerun()


def _draw_verified(model: ExportedModel, row: ModelExportRow) -> None:
    """What came of looking again at the files as they lie there now, and the button that does so."""
    jobs = exports_reads.verifications(row["job_id"])
    alive = [job for job in jobs if job["status"] in ALIVE]
    if alive:
        show_live(alive[0]["job_id"], "check", plain(alive[0]["title"]))
    elif jobs and jobs[0]["status"] == "finished":
        _draw_outcome(jobs[0])
    elif jobs:
        show_bad_end(jobs[0], "check")
    if not may("work"):
        return
    with st.container(horizontal=True):
        body = {"export": row["job_id"], "subject": model.subject, "checkpoint": row["checkpoint"]}
        if st.button(
            "Verify again",
            icon=":material/verified:",
            key=f"export-verify-{row['job_id']}",
            disabled=bool(alive),
            help="Holds the files as they lie there now against the model. One that came back from somebody"
            f" else: tunebench model verify FOLDER --against {model.title}",
        ) and (act("verify_model", body) is not None):
            st.rerun()
        _draw_delete(row)


def _draw_outcome(job: Job) -> None:
    result = cast(ModelVerifyResult, job["result"])
    status = exports_table.STATUS[result["parity"]["status"]]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**Verified again**, {quantities.ago(job['ended_at'])}: {plain(export_words.verified(result))}"
        )
        st.badge(status.title, icon=status.icon, color=status.color)
    for reason in result["parity"]["reasons"]:
        st.markdown(f"- {plain(reason)}")


def _draw_delete(row: ModelExportRow) -> None:
    with st.popover("Delete", icon=":material/delete:"):
        st.markdown("The files are removed from this machine. What was pushed or copied stays.")
        if st.button("Delete this export", key=f"export-delete-{row['job_id']}", type="primary") and (
            act("delete_export", {"export": row["job_id"]}, "The export is deleted.") is not None
        ):
            st.rerun()
