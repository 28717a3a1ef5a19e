"""The page of one model: what is in production, one version of it, and what there is to know of that."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import streamlit as st

from engine.diagnostics import phrasing
from pages.exports.exports_view import draw_version_exports
from pages.improve.improve_tab import draw_improve
from pages.models import model_reads
from pages.models.card_tab import draw_card
from pages.models.gate_tab import draw_gate
from pages.models.headline import headline
from pages.models.lineage_tab import draw_lineage
from pages.models.versions_tab import draw_versions
from pages.people.activity_lines import draw_last
from pages.shared.session import client, may, plain, show_error
from pages.shared.tabs import LINK, Tab, asked_tab, open_tab
from store.contract.errors import NotFoundError
from store.documents.shipping.version import AliasNow, ModelLine, ModelVersion
from store.http.client import Client

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
        model = model_reads.model(name)
    except NotFoundError as error:
        _back()
        show_error(error)
        return
    aliases = model_reads.aliases(model["model_id"])
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
        return model_reads.version(f"{model['name']}@{asked or number}")
    except NotFoundError as error:
        show_error(error)
        return model_reads.version(f"{model['name']}@{number}")


def _back() -> None:
    if st.button("All models", type="tertiary", icon=":material/arrow_back:", key="models-back"):
        st.switch_page("pages/models/models.py")


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
        figure = headline(model_reads.measured(reference)) or "not evaluated yet"
        count = phrasing.plural(model["versions"], "version")
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
            st.switch_page("pages/evaluations/evaluations.py")
        return
    if st.button(
        "Take it to production", icon=":material/verified:", type="primary", key="model-next",
        help="See whether it passes the gate of production",
    ):  # fmt: skip
        st.query_params.update({"model": model["name"], VERSION: str(version["version"]), LINK: "gate"})
        st.rerun()
