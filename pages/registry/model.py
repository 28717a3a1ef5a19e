"""The page of one model: the production version, one version with its main figure and card, and tabs."""

from __future__ import annotations

from typing import NamedTuple

import streamlit as st

from pages.people.activity_feed import draw_recent_activity
from pages.registry import model_queries
from pages.registry.gate import draw_gate
from pages.registry.versions import draw_lineage, draw_versions
from pages.shared.features import add_feature_tabs
from pages.shared.layout import LINK, Tab, draw_tab_bar, get_linked_tab
from pages.shared.session import escape_markdown, get_client, has_right, send_command, show_error
from store.core import formatting
from store.core.errors import NotFoundError
from store.core.model_schemas import AliasState, ModelSummary, ModelVersion
from store.evaluation.schemas import Evaluation
from store.http.client import Client
from store.registry import model_card


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
