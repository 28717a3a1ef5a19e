"""All registered models, a page at a time, and the way to register one."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics import phrasing
from pages.models import model_reads
from pages.models.headline import headline
from pages.run_parts.improve_link import asked_rows, improve_query
from pages.run_parts.improvements_waiting import draw_waiting
from pages.run_parts.register_run import draw_fields
from pages.shared import quantities, reads
from pages.shared.progress_bar import progress_block
from pages.shared.session import act, guarded, live, may, plain, redraw, watch_engine
from store.contract.states import ALIVE
from store.documents.shipping.version import ModelLine
from store.documents.tables.job import Job

PAGE = 20
TABLE = "models-table"
BAD_ENDS = 3


def draw() -> None:
    st.title("Which version is in production?", anchor=False)
    draw_waiting()
    alive = _draw_registering()
    total, listed = _page()
    searched = bool(st.session_state.get("models-search"))
    if not total and not searched and not alive:
        st.markdown(
            "There is no registered model yet. Register what a run left, and it gets a number that never"
            " changes, aliases such as **production**, a gate before each of them, and a model card."
        )
    if may("work"):
        with st.expander("Register a model", icon=":material/add:", expanded=not total and not alive):
            _draw_register()
    if total or searched:
        _draw_list(total, listed)


def _page() -> tuple[int, list[ModelLine]]:
    search = (st.session_state.get("models-search") or "").strip()
    number = int(st.session_state.get("models-page") or 1)
    total, listed = model_reads.models(search, PAGE, PAGE * (number - 1))
    if not listed and total:
        st.session_state.pop("models-page", None)
        total, listed = model_reads.models(search, PAGE, 0)
    return total, listed


def _draw_list(total: int, listed: list[ModelLine]) -> None:
    st.text_input(
        "Search", key="models-search", type="search", live="300ms", icon=":material/search:",
        placeholder="Search models by name", label_visibility="collapsed",
    )  # fmt: skip
    if not total:
        st.caption("No model is called like that.")
        return
    rows = asked_rows()
    if rows:
        st.info(
            "Which model are these rows for? Choose it, and its form has them.", icon=":material/autorenew:"
        )
    for line in listed:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            with st.container(gap=None, width="stretch"):
                st.page_link(
                    "pages/models/models.py",
                    label=f"**{plain(line['name'])}**",
                    query_params=improve_query(line["name"], **rows) if rows else {"model": line["name"]},
                )
                st.caption(_summary(line))
            st.markdown(_badge(line), width="content")
    pages = -(-total // PAGE)
    if pages > 1:
        st.pagination(pages, key="models-page")
        st.caption(f"{len(listed)} of {phrasing.plural(total, 'model')}, newest first")


def _badge(line: ModelLine) -> str:
    if line["production"] is None:
        return ":gray-badge[Nothing in production]"
    return f":green-badge[:material/verified: Production: version {line['production']}]"


def _summary(line: ModelLine) -> str:
    """Versions, and the headline figure of the one in production, or of the newest."""
    parts = [phrasing.plural(line["versions"], "version")]
    number = line["production"] or line["newest"]
    if number is not None:
        figure = headline(model_reads.measured(f"{line['name']}@{number}"))
        whose = "production" if line["production"] else "the newest"
        parts.append(f"{whose}: {figure}" if figure else f"{whose} was not evaluated yet")
    if line["newest_at"]:
        parts.append(f"newest {quantities.ago(line['newest_at'])}")
    return plain(" · ".join(parts))


# -- registering ------------------------------------------------------------------------------------


def _draw_register() -> None:
    what = st.segmented_control(
        "What", ["A run", "A folder"], default="A run", key="models-what", label_visibility="collapsed"
    )
    if what == "A folder":
        path = st.text_input(
            "Folder", key="models-path", placeholder="/data/models/support",
            help="On the machine of the engine: a whole model or an adapter, as safetensors.",
        )  # fmt: skip
        base = st.text_input("Base model of an adapter", key="models-base", placeholder="owner/name")
        draw_fields({"path": (path or "").strip(), "base": (base or "").strip()}, "models-folder")
        return
    finished = reads.runs("", ("finished",), 200, 0)
    if not finished:
        st.markdown("No run has finished yet.")
        st.page_link("pages/launch/launch.py", label="Launch one", icon=":material/rocket_launch:")
        return
    names = {run["run_id"]: run["name"] for run in finished}
    run_id = st.selectbox("Run", list(names), format_func=names.__getitem__, key="models-run")
    draw_fields({"run": run_id or ""}, "models-register")


def _draw_registering() -> bool:
    jobs = model_reads.registering()
    alive = tuple(job["job_id"] for job in jobs if job["status"] in ALIVE)
    if alive:
        _live(alive)
    for job in [job for job in jobs if job["status"] not in ALIVE][::-1][:BAD_ENDS]:
        _bad_end(job)
    return bool(alive)


@live("1s")
def _live(drawn: tuple[str, ...]) -> None:
    with guarded():
        watch_engine()
        jobs = [job for job in model_reads.registering() if job["status"] in ALIVE]
        if tuple(job["job_id"] for job in jobs) != drawn:
            st.cache_data.clear()
            redraw()
        for job in jobs:
            with st.container(border=True, gap="xsmall"):
                with st.container(horizontal=True, vertical_alignment="center"):
                    st.markdown(f"**{plain(job['title'])}**", width="stretch")
                    stop = f"cancel-{job['job_id']}"
                    if may("work") and st.button("Cancel", key=stop, icon=":material/stop_circle:"):
                        act("cancel", {"job": job["job_id"]}, "The registering is being cancelled.")
                st.html(progress_block(job))


def _bad_end(job: Job) -> None:
    error = job["error"]
    why = f"{error['message']} {error.get('fix') or ''}" if error else f"It was {job['status']}."
    with st.container(border=True, gap="xsmall"):
        st.markdown(f":red[:material/error:] **{plain(job['title'])}**")
        st.caption(plain(why.strip()))
        if not may("work"):
            return
        with st.container(horizontal=True):
            for label, command, done in (
                ("Try it again", "resume", "It is queued."),
                ("Delete it", "delete", "It is deleted."),
            ):
                pressed = st.button(label, key=f"model-{command}-{job['job_id']}")
                if pressed and act(command, {"job": job["job_id"]}, done) is not None:
                    st.rerun()
