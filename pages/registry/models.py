"""The Models page: production versions and candidates.

The link is `?model=NAME`, with `&version=3` and `&tab=gate`. Without a model it lists all models and the
registration form.
"""

from __future__ import annotations

import streamlit as st

from pages.registry import model_queries
from pages.registry.model import draw_model, format_headline
from pages.registry.model_links import build_improve_query, read_linked_rows
from pages.registry.registration import REGISTERING, draw_fields
from pages.shared import cached_queries, display, layout
from pages.shared.features import list_parts
from pages.shared.job_progress import show_active_jobs, show_failed_jobs
from pages.shared.session import escape_markdown, get_client, has_right, is_machine_owner, show_errors
from store.core import formatting
from store.core.errors import NotFoundError
from store.core.job_kinds import ALIVE
from store.core.model_schemas import ModelSummary
from store.http.schemas import describe_registration
from store.jobs import job_queue
from store.registry import model_versions

PAGE = 20
TABLE = "models-table"
BAD_ENDS = 3


def draw_models() -> None:
    st.title("Models", anchor=False)
    for draw in list_parts(lambda feature: feature.notices.get("models")):
        draw()
    alive = _draw_registrations()
    total, listed = _read_page()
    searched = bool(st.session_state.get("models-search"))
    if not total and not searched and not alive:
        st.markdown(
            "No registered models yet. Register a run's model to give it a fixed version number, aliases "
            "such as **production**, a gate for each alias, and a model card."
        )
    if has_right("work"):
        with st.expander("Register model", icon=":material/add:", expanded=not total and not alive):
            _draw_register()
    if total or searched:
        _draw_list(total, listed)


def _read_page() -> tuple[int, list[ModelSummary]]:
    search = (st.session_state.get("models-search") or "").strip()
    return layout.read_page(
        "models-page", PAGE, lambda offset: model_queries.list_models(search, PAGE, offset)
    )


def _draw_list(total: int, listed: list[ModelSummary]) -> None:
    st.text_input(
        "Search", key="models-search", type="search", live="300ms", icon=":material/search:",
        placeholder="Search models by name", label_visibility="collapsed",
    )  # fmt: skip
    if not total:
        st.caption("No matching models. Try another search.")
        return
    rows = read_linked_rows()
    if rows:
        st.info(
            "Choose the model that these rows are for; its form is filled in with them.",
            icon=":material/autorenew:",
        )
    for line in listed:
        link = build_improve_query(line.name, **rows) if rows else {"model": line.name}
        layout.draw_link(
            "pages/registry/models.py", line.name, link, _format_summary(line), _format_badge(line)
        )
    pages = -(-total // PAGE)
    if pages > 1:
        st.pagination(pages, key="models-page")
        st.caption(f"{len(listed)} of {formatting.plural(total, 'model')}, newest first")


def _format_badge(line: ModelSummary) -> str:
    if line.production is None:
        return ":gray-badge[Nothing in production]"
    return f":green-badge[:material/verified: Production: version {line.production}]"


def _format_summary(line: ModelSummary) -> str:
    """Format the number of versions, and the headline figure of the production version or the newest."""
    parts = [formatting.plural(line.versions, "version")]
    number = line.production or line.newest
    if number is not None:
        figure = format_headline(model_queries.find_headline_evaluation(f"{line.name}@{number}"))
        whose = "production" if line.production else "the newest"
        parts.append(f"{whose}: {figure}" if figure else f"{whose} is not evaluated yet")
    if line.newest_at:
        parts.append(f"newest {display.format_ago(line.newest_at)}")
    return escape_markdown(" · ".join(parts))


def _draw_register() -> None:
    what: str | None = "A run"
    if is_machine_owner():
        what = st.segmented_control(
            "What", ["A run", "A folder"], default="A run", key="models-what", label_visibility="collapsed"
        )
    if what == "A folder":
        path = st.text_input(
            "Folder", key="models-path", placeholder="/data/models/support",
            help="A folder on the engine's machine with a full model or an adapter, as safetensors.",
        )  # fmt: skip
        base = st.text_input("Base model of an adapter", key="models-base", placeholder="owner/name")
        draw_fields({"path": (path or "").strip(), "base": (base or "").strip()}, "models-folder")
        return
    finished = cached_queries.list_run_choices("", ("finished",), 200)
    if not finished:
        st.markdown("No finished runs yet.")
        st.page_link("pages/training/launch.py", label="Launch run", icon=":material/rocket_launch:")
        return
    names = {run.run_id: run.name for run in finished}
    run_id = st.selectbox("Run", list(names), format_func=names.__getitem__, key="models-run")
    draw_fields({"run": run_id or ""}, "models-register")


def _draw_registrations() -> bool:
    listed = model_queries.list_registrations()
    alive = [job.job_id for job in listed if job.status in ALIVE]
    if alive:
        show_active_jobs(model_queries.list_registrations, alive, "registering")
    show_failed_jobs([job for job in listed if job.job_id not in alive], "registering", BAD_ENDS)
    _show_registration_result()
    return bool(alive)


def _show_registration_result() -> None:
    """Show the result of this session's last registration: the version, and whether it already existed."""
    asked = st.session_state.get(REGISTERING)
    job = next(iter(job_queue.with_ids(get_client(), [asked])), None) if asked else None
    if job is None or job.status != "finished":
        return
    try:
        version = model_versions.registered_by(get_client(), job.job_id)
    except NotFoundError:
        return
    st.success(escape_markdown(describe_registration(version, job)), icon=":material/deployed_code:")


LINK = "model"


def main() -> None:
    name = st.query_params.get(LINK, "")
    with show_errors():
        if name:
            draw_model(name)
        else:
            draw_models()


main()
