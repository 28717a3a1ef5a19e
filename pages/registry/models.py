"""Models: which version is in production, and may the next one take its place?

The link is `?model=NAME`, with `&version=3` and `&tab=gate`. Without a model: all of them, and how to
register one.
"""

from __future__ import annotations

import streamlit as st

from pages.registry import model_queries
from pages.registry.model import draw_model, headline
from pages.shared import cached_queries, display, layout
from pages.shared.deployment import REGISTERING, asked_rows, draw_fields, draw_waiting, improve_query
from pages.shared.job_progress import show_alive, show_ended
from pages.shared.session import client, guarded, may, owns_machine, plain
from store.core import formatting
from store.core.errors import NotFoundError
from store.core.job_kinds import ALIVE
from store.core.model_schemas import ModelLine
from store.http.schemas import registered_sentence
from store.jobs import job_queue
from store.registry import model_versions

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
    return layout.page_of("models-page", PAGE, lambda offset: model_queries.models(search, PAGE, offset))


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
        link = improve_query(line["name"], **rows) if rows else {"model": line["name"]}
        layout.draw_link("pages/registry/models.py", line["name"], link, _summary(line), _badge(line))
    pages = -(-total // PAGE)
    if pages > 1:
        st.pagination(pages, key="models-page")
        st.caption(f"{len(listed)} of {formatting.plural(total, 'model')}, newest first")


def _badge(line: ModelLine) -> str:
    if line["production"] is None:
        return ":gray-badge[Nothing in production]"
    return f":green-badge[:material/verified: Production: version {line['production']}]"


def _summary(line: ModelLine) -> str:
    """Versions, and the headline figure of the one in production, or of the newest."""
    parts = [formatting.plural(line["versions"], "version")]
    number = line["production"] or line["newest"]
    if number is not None:
        figure = headline(model_queries.measured(f"{line['name']}@{number}"))
        whose = "production" if line["production"] else "the newest"
        parts.append(f"{whose}: {figure}" if figure else f"{whose} was not evaluated yet")
    if line["newest_at"]:
        parts.append(f"newest {display.ago(line['newest_at'])}")
    return plain(" · ".join(parts))


# -- registering ------------------------------------------------------------------------------------


def _draw_register() -> None:
    what: str | None = "A run"
    if owns_machine():
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
    finished = cached_queries.runs("", ("finished",), 200, 0)
    if not finished:
        st.markdown("No run has finished yet.")
        st.page_link("pages/training/launch.py", label="Launch one", icon=":material/rocket_launch:")
        return
    names = {run["run_id"]: run["name"] for run in finished}
    run_id = st.selectbox("Run", list(names), format_func=names.__getitem__, key="models-run")
    draw_fields({"run": run_id or ""}, "models-register")


def _draw_registering() -> bool:
    listed = model_queries.registering()
    alive = [job["job_id"] for job in listed if job["status"] in ALIVE]
    if alive:
        show_alive(model_queries.registering, alive, "registering")
    show_ended([job for job in listed if job["job_id"] not in alive], "registering", BAD_ENDS)
    _show_registered()
    return bool(alive)


def _show_registered() -> None:
    """What the registering that this session asked for last came to: which version, new or there before."""
    asked = st.session_state.get(REGISTERING)
    job = next(iter(job_queue.with_ids(client(), [asked])), None) if asked else None
    if job is None or job["status"] != "finished":
        return
    try:
        version = model_versions.registered_by(client(), job["job_id"])
    except NotFoundError:
        return
    st.success(plain(registered_sentence(version, job)), icon=":material/deployed_code:")


# Models: which version is in production, and may the next one take its place?
#
# The link is `?model=NAME`, with `&version=3` and `&tab=gate`. Without a model: all of them, and how to
# register one.

LINK = "model"


def main() -> None:
    name = st.query_params.get(LINK, "")
    with guarded():
        if name:
            draw_model(name)
        else:
            draw()


main()
