"""The page of one model: what is in production, one version of it with the figure that it is known by, its
card, and a tab for all else there is to know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import streamlit as st

from pages.export.tab import draw_version_exports
from pages.people.activity_feed import draw_last
from pages.registry import model_queries
from pages.registry.gate import draw_gate
from pages.registry.versions import draw_lineage, draw_versions
from pages.retraining.tab import draw_improve
from pages.shared.layout import LINK, Tab, asked_tab, open_tab
from pages.shared.session import act, client, may, plain, show_error
from store.core import formatting
from store.core.errors import NotFoundError
from store.core.model_schemas import AliasNow, ModelLine, ModelVersion
from store.evaluation.schemas import Evaluation
from store.http.client import Client
from store.registry import model_card


def headline(evaluation: Evaluation | None) -> str:
    """ "accuracy 0.92 (0.88 to 0.95, n 200) on trec"; empty where nothing was measured."""
    figures = evaluation["figures"] if evaluation else []
    usable = [entry for entry in figures if entry["value"] is not None]
    sure = [entry for entry in usable if entry["low"] is not None]
    figure = next(iter(sure or usable), None)
    if evaluation is None or figure is None or figure["value"] is None:
        return ""
    places = formatting.decimals(figure["low"], figure["high"])
    bounds = formatting.interval(figure["low"], figure["high"], places)
    name = figure["metric"].removeprefix("eval/").replace("_", " ")
    value = formatting.number(figure["value"], places)
    return f"{name} {value} ({bounds}, n {figure['n']:,}) on {evaluation['dataset_name']}"


def draw_card(_: Client, model: ModelLine, version: ModelVersion) -> None:
    """What the model is meant for, to be written; then the card."""
    reference = f"{model['name']}@{version['version']}"
    text = model_card.write(model_queries.card(reference))
    if may("work"):
        _draw_intended(model)
    st.download_button(
        "Download the card", text, f"{reference}.md", "text/markdown", icon=":material/download:",
        key="card-download",
    )  # fmt: skip
    front, _rule, body = text.removeprefix("---\n").partition("\n---\n")
    with st.container(border=True, key="model-card"):
        st.markdown(body.replace("$", r"\$"))
    with st.expander("What hubs read of it (front matter)", icon=":material/code:"):
        st.code(front, language="yaml")


def _draw_intended(model: ModelLine) -> None:
    with (
        st.expander("What is it meant for?", icon=":material/edit:", expanded=not model["description"]),
        st.form(f"intended-{model['model_id']}", border=False),
    ):
        typed = st.text_area(
            "Intended use", model["description"], height=120, max_chars=10_000, key="card-intended",
            placeholder="Answers questions about our products, in English. Not for medical advice.",
        )  # fmt: skip
        if st.form_submit_button("Save", icon=":material/save:"):
            body = {"model": model["name"], "description": (typed or "").strip()}
            if act("describe_model", body | {"seen": model["description"]}, "Saved") is not None:
                st.rerun()


VERSION = "version"  # in the link: its number


class Shown(NamedTuple):
    """What a page of a model is of."""

    model: ModelLine
    version: ModelVersion
    aliases: list[AliasNow]


# Each tab is a function of the client, the model and the version that is shown.
DrawTab = Callable[[Client, ModelLine, ModelVersion], None]
TABS: dict[str, tuple[str, DrawTab]] = {
    "versions": (":material/format_list_numbered: Versions", draw_versions),
    "gate": (":material/rule: Gate", draw_gate),
    "improve": (":material/autorenew: Improve", lambda _, model, __: draw_improve(model)),
    "lineage": (":material/account_tree: Lineage", draw_lineage),
    "exports": (":material/output: Exports", lambda _, __, version: draw_version_exports(version)),
    "card": (":material/description: Card", draw_card),
}


def draw_model(name: str) -> None:
    """By its name or id."""
    try:
        model = model_queries.model(name)
    except NotFoundError as error:
        _back()
        show_error(error)
        return
    aliases = model_queries.aliases(model["model_id"])
    if model["newest"] is None:
        _back()
        st.title(plain(model["name"]), anchor=False)
        st.markdown("All its versions were deleted. Register a run as its next version.")
        return
    subject = Shown(model, _version(model), aliases)
    _draw_head(subject)
    tabs = {key: Tab(title, _drawing(draw, subject)) for key, (title, draw) in TABS.items()}
    tab, place = open_tab(tabs, "model-tabs", subject={"model": model["name"]})
    with place:
        tab.draw()
    if not asked_tab():
        draw_last("model", model["model_id"])


def _drawing(draw: DrawTab, subject: Shown) -> Callable[[], None]:
    return lambda: draw(client(), subject.model, subject.version)


def _version(model: ModelLine) -> ModelVersion:
    """That of the link, else that in production, else the newest."""
    number = model["production"] or model["newest"]
    asked = st.query_params.get(VERSION, "")
    try:
        return model_queries.version(f"{model['name']}@{asked or number}")
    except NotFoundError as error:
        show_error(error)
        return model_queries.version(f"{model['name']}@{number}")


def _back() -> None:
    if st.button("All models", type="tertiary", icon=":material/arrow_back:", key="models-back"):
        st.switch_page("pages/registry/models.py")


def _draw_head(subject: Shown) -> None:
    model, version, aliases = subject
    reference = f"{model['name']}@{version['version']}"
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title(plain(reference), anchor=False, width="content")
        _draw_next(subject)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        _back()
        own = [entry["alias"] for entry in aliases if entry["version"] == version["version"]]
        badges = " ".join(f":green-badge[:material/sell: {plain(alias)}]" for alias in own)
        figure = headline(model_queries.measured(reference)) or "not evaluated yet"
        count = formatting.plural(model["versions"], "version")
        st.markdown(f"{badges} :gray[{plain(figure)} · {count}]", width="content")
    if version["notes"]:
        st.caption(plain(version["notes"]))


def _draw_next(subject: Shown) -> None:
    """The likeliest next step."""
    model, version, _ = subject
    if st.query_params.get(LINK) == "gate" or not may("work"):
        return
    if model["production"] == version["version"]:
        if st.button("Evaluate it", icon=":material/fact_check:", key="model-evaluate"):
            st.switch_page("pages/evaluation/evaluations.py")
        return
    if st.button(
        "Take it to production", icon=":material/verified:", type="primary", key="model-next",
        help="See whether it passes the gate of production",
    ):  # fmt: skip
        st.query_params.update({"model": model["name"], VERSION: str(version["version"]), LINK: "gate"})
        st.rerun()
