"""The Models page: production versions and candidates.

The link is `?model=NAME`, with `&version=3` and `&tab=gate`, for one model: one of its versions with its main
figure and card, and tabs. Without a model it lists all models and the registration form.
"""

from __future__ import annotations

from typing import NamedTuple

import streamlit as st

from pages.people.activity_feed import draw_recent_activity
from pages.registry import model_queries
from pages.registry.gate import draw_gate
from pages.registry.model_links import build_improve_query, read_linked_rows
from pages.registry.registration import REGISTERING, draw_fields
from pages.registry.versions import draw_lineage, draw_versions
from pages.shared import cached_queries, display, layout
from pages.shared.features import add_feature_tabs, list_parts
from pages.shared.job_progress import show_active_jobs, show_failed_jobs
from pages.shared.layout import LINK, Tab, draw_tab_bar, get_linked_tab
from pages.shared.session import (
    escape_markdown,
    get_client,
    has_right,
    is_machine_owner,
    send_command,
    show_error,
    show_errors,
)
from store.core import formatting
from store.core.errors import NotFoundError
from store.core.job_kinds import ALIVE
from store.core.model_schemas import AliasState, ModelSummary, ModelVersion
from store.evaluation.schemas import Evaluation
from store.http.client import Client
from store.http.schemas import describe_registration
from store.jobs import job_queue
from store.registry import model_card, model_versions

PAGE = 20
BAD_ENDS = 3


def draw_models() -> None:
    st.title("Models", anchor=False)
    for draw in list_parts(lambda feature: feature.notices.get("models")):
        draw()
    alive = _draw_registrations()
    search = (st.session_state.get("models-search") or "").strip()
    total, listed = layout.read_page(
        "models-page", PAGE, lambda offset: model_queries.list_models(search, PAGE, offset)
    )
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
        badge = ":gray-badge[Nothing in production]"
        if line.production is not None:
            badge = f":green-badge[:material/verified: Production: version {line.production}]"
        layout.draw_link("pages/registry/models.py", line.name, link, _format_summary(line), badge)
    pages = -(-total // PAGE)
    if pages > 1:
        st.pagination(pages, key="models-page")
        st.caption(f"{len(listed)} of {formatting.plural(total, 'model')}, newest first")


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


def format_headline(evaluation: Evaluation | None) -> str:
    """Format as "accuracy 0.92 (0.88 to 0.95, n 200) on trec"; "" if nothing was measured."""
    figures = evaluation.figures if evaluation else []
    usable = [entry for entry in figures if entry.value is not None]
    sure = [entry for entry in usable if entry.low is not None]
    figure = next(iter(sure or usable), None)
    if evaluation is None or figure is None or figure.value is None:
        return ""
    places = formatting.compute_decimals(figure.low, figure.high)
    bounds = formatting.format_interval(figure.low, figure.high, places)
    name = figure.metric.removeprefix("eval/").replace("_", " ")
    value = formatting.format_number(figure.value, places)
    return f"{name} {value} ({bounds}, n {figure.n:,}) on {evaluation.dataset_name}"


def draw_card(_: Client, model: ModelSummary, version: ModelVersion) -> None:
    """Draw the form of the intended use, then the model card."""
    reference = f"{model.name}@{version.version}"
    text = model_card.format_card(model_queries.read_model_card(reference))
    if has_right("work"):
        _draw_intended_use(model)
    st.download_button(
        "Download model card", text, f"{reference}.md", "text/markdown", icon=":material/download:",
        key="card-download",
    )  # fmt: skip
    front, _rule, body = text.removeprefix("---\n").partition("\n---\n")
    with st.container(border=True, key="model-card"):
        st.markdown(body.replace("$", r"\$"))
    with st.expander("Front matter for model hubs", icon=":material/code:"):
        st.code(front, language="yaml")


def _draw_intended_use(model: ModelSummary) -> None:
    with (
        st.expander("Edit intended use", icon=":material/edit:", expanded=not model.description),
        st.form(f"intended-{model.model_id}", border=False),
    ):
        typed = st.text_area(
            "Intended use", model.description, height=120, max_chars=10_000, key="card-intended",
            placeholder="Answers questions about our products, in English. Not for medical advice.",
        )  # fmt: skip
        if st.form_submit_button("Save", icon=":material/save:"):
            body = {"model": model.name, "description": (typed or "").strip()}
            if send_command("describe_model", body | {"seen": model.description}, "Saved") is not None:
                st.rerun()


VERSION = "version"  # link parameter: the version's number


class ModelPage(NamedTuple):
    """The model, version and aliases of a page."""

    model: ModelSummary
    version: ModelVersion
    aliases: list[AliasState]


# Each tab is drawn by a function of client, model and version.
TABS = {
    "versions": Tab(":material/format_list_numbered: Versions", draw_versions),
    "gate": Tab(":material/rule: Gate", draw_gate),
    "lineage": Tab(":material/account_tree: Lineage", draw_lineage),
    "card": Tab(":material/description: Card", draw_card),
}


def draw_model(name: str) -> None:
    """Draw the page of the model with this name or id."""
    try:
        model = model_queries.read_model(name)
    except NotFoundError as error:
        _draw_back_link()
        show_error(error)
        return
    aliases = model_queries.list_aliases(model.model_id)
    if model.newest is None:
        _draw_back_link()
        st.title(escape_markdown(model.name), anchor=False)
        st.markdown("All versions were deleted. Register a run as the next version.")
        return
    subject = ModelPage(model, _choose_version(model), aliases)
    _draw_head(subject)
    tabs = add_feature_tabs("version", TABS)
    tab, place = draw_tab_bar(tabs, "model-tabs", subject={"model": model.name})
    with place:
        tab.draw(get_client(), subject.model, subject.version)
    if not get_linked_tab():
        draw_recent_activity("model", model.model_id)


def _choose_version(model: ModelSummary) -> ModelVersion:
    """Return the version named in the link, or else the production version, or else the newest."""
    number = model.production or model.newest
    asked = st.query_params.get(VERSION, "")
    try:
        return model_queries.read_version(f"{model.name}@{asked or number}")
    except NotFoundError as error:
        show_error(error)
        return model_queries.read_version(f"{model.name}@{number}")


def _draw_back_link() -> None:
    if st.button("All models", type="tertiary", icon=":material/arrow_back:", key="models-back"):
        st.switch_page("pages/registry/models.py")


def _draw_head(subject: ModelPage) -> None:
    model, version, aliases = subject
    reference = f"{model.name}@{version.version}"
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title(escape_markdown(reference), anchor=False, width="content")
        _draw_next_step(subject)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        _draw_back_link()
        own = [entry.alias for entry in aliases if entry.version == version.version]
        badges = " ".join(f":green-badge[:material/sell: {escape_markdown(alias)}]" for alias in own)
        figure = format_headline(model_queries.find_headline_evaluation(reference)) or "not evaluated yet"
        count = formatting.plural(model.versions, "version")
        st.markdown(f"{badges} :gray[{escape_markdown(figure)} · {count}]", width="content")
    if version.notes:
        st.caption(escape_markdown(version.notes))


def _draw_next_step(subject: ModelPage) -> None:
    """Draw a button for the most likely next step."""
    model, version, _ = subject
    if st.query_params.get(LINK) == "gate" or not has_right("work"):
        return
    if model.production == version.version:
        if st.button("Evaluate", icon=":material/fact_check:", key="model-evaluate"):
            st.switch_page("pages/evaluation/evaluations.py")
        return
    if st.button(
        "Promote to production", icon=":material/verified:", type="primary", key="model-next",
        help="Check the production gate",
    ):  # fmt: skip
        st.query_params.update({"model": model.name, VERSION: str(version.version), LINK: "gate"})
        st.rerun()


def main() -> None:
    name = st.query_params.get("model", "")
    with show_errors():
        if name:
            draw_model(name)
        else:
            draw_models()


main()
