"""Asking for an export: the form, on which rows it is held against the model, and where it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from pages.exports.exports_reads import ExportedModel
from pages.shared import reads
from pages.shared.session import act, plain
from store.catalog.export_forms import FAMILY_TITLES, FORMS, GGUF_FORMS, OLLAMA_GGUF, USUAL_ROWS
from store.documents.shipping.export import ModelExportRow
from store.words import export_words

FIRST = "gguf-q8_0"  # what most people want
OWN = ""  # rows of the run


def _title(name: str) -> str:
    form = FORMS[name]
    family = FAMILY_TITLES[form.family]
    return form.title if form.title.startswith(family) else f"{family}: {form.title}"


def draw_form(model: ExportedModel, rows: Sequence[ModelExportRow]) -> None:
    """The fields and the button."""
    names = model.forms()
    made = {row["form"] for row in rows}
    usual = next((name for name in (FIRST, "merged", *names) if name in names and name not in made), names[0])
    form = st.selectbox(
        "Form",
        names,
        index=names.index(usual),
        format_func=_title,
        key="export-form",
    )
    st.caption(plain(FORMS[form].when))
    if why := model.refused():
        st.caption(plain(why))
    body: dict[str, Any] = {"subject": model.subject, "form": form}
    if form == "ollama":
        body["gguf"] = st.selectbox(
            "Which file Ollama is given",
            GGUF_FORMS,
            index=GGUF_FORMS.index(OLLAMA_GGUF),
            format_func=lambda name: FORMS[name].title,
            key="export-gguf",
        )
    dataset = _draw_rows(model, body)
    body["zip"] = st.checkbox("Also as one zip file", key="export-zip")
    hub = st.text_input(
        "Push to a repository of the Hugging Face hub",
        placeholder="owner/name; left empty it stays here",
        key="export-hub",
        help="With the token of this machine (hf auth login, or HF_TOKEN), which is never stored. A new"
        " repository is private. An export whose parity failed is not pushed.",
    )
    if hub.strip():
        body["hub"] = hub.strip()
    if st.button("Export", type="primary", icon=":material/output:", disabled=not dataset) and (
        act("export_model", body) is not None
    ):
        st.rerun()


def _draw_rows(model: ExportedModel, body: dict[str, Any]) -> bool:
    """On which rows the two are compared; whether there are any."""
    sets = {row["dataset_id"]: row["name"] for row in reads.datasets()}
    choices = [*([OWN] if model.has_data else []), *sets]
    if not choices:
        st.info("Import a data set first: model and export both answer its rows.", icon=":material/info:")
        return False
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Rows that both answer",
            choices,
            format_func=lambda name: sets.get(name, "Test rows of the run, else validation"),
            key="export-dataset",
        )
        most = st.number_input("At most", 8, 2_000, USUAL_ROWS, key="export-rows")
    st.caption(export_words.rows_needed(int(most)))
    body["max_rows"] = int(most)
    if chosen != OWN:
        body |= {"dataset": chosen}
        body["part"] = "test" if model.has_data else "all"
    return True
