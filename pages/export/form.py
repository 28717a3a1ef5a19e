"""The export form: format, rows on which the export is compared with the model, and destination; and the
queries of the tab.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from pages.shared import cached_queries
from pages.shared.session import cached, escape_markdown, get_client, send_command
from store.core.export_schemas import ModelExportRow
from store.core.model_schemas import ModelVersion
from store.core.schemas import Job
from store.export import exports
from store.export import text as export_text
from store.export.forms import FAMILY_TITLES, FORMS, GGUF_FORMS, OLLAMA_GGUF, USUAL_ROWS
from store.runs.schemas import Run
from store.training.methods import METHODS


@dataclass(frozen=True)
class ExportedModel:
    """A run, or a version of a registered model.

    `subject`: its name in commands. `method`: of the run, "" if unknown. has_data: it has rows of its own
    that both model and export can answer.
    """

    subject: str
    title: str
    run_id: str | None
    model_id: str | None
    version: int | None
    method: str
    headed: bool
    has_data: bool

    @classmethod
    def of_run(cls, run: Run) -> ExportedModel:
        config = run.config
        headed = config.get("task") == "classification"
        return cls(run.run_id, run.name, run.run_id, None, None, config["method"], headed, True)

    @classmethod
    def of_version(cls, version: ModelVersion, run: Run | None) -> ExportedModel:
        """Build it from a version; `run`: the run it was made from, if it still exists."""
        subject = f"{version.name}@{version.version}"
        method = run.config["method"] if run else ""
        headed = bool(run and run.config.get("task") == "classification")
        return cls(
            *(subject, subject, None, version.model_id, version.version),
            method,
            headed,
            run is not None,
        )

    def forms(self) -> list[str]:
        """The formats available for it."""
        method = METHODS.get(self.method)
        names = []
        for name, form in FORMS.items():
            merges = not form.needs_merge or method is None or method.merges or not method.adapter
            adapter = form.needs_merge or method is None or method.adapter
            if merges and adapter and (form.headed or not self.headed):
                names.append(name)
        return names

    def refused(self) -> str:
        """Why formats are missing; "" if none is."""
        method = METHODS.get(self.method)
        if method and method.adapter and not method.merges:
            return f"{method.title} can't be merged into the weights. Only the adapter format is available."
        if self.headed:
            return "GGUF formats are not available for models with a classification head."
        return ""


@cached(cached_queries.LIVE, most=64)
def list_exports(run_id: str | None, model_id: str | None, version: int | None) -> list[ModelExportRow]:
    """Exports of the model, newest first."""
    if run_id is not None:
        return exports.of_run(get_client(), run_id)
    assert model_id is not None
    assert version is not None
    return exports.of_version(get_client(), model_id, version)


@cached(cached_queries.LIVE, most=64)
def list_verifications(export: str) -> list[Job]:
    """Repeated verifications of an export, newest first."""
    return exports.verifications(get_client(), export)


@cached(cached_queries.LIVE, most=64)
def list_unfinished(subject: str) -> list[Job]:
    """Active exports, and those that ended without a result."""
    return exports.unfinished(get_client(), subject)


DEFAULT_FORM = "gguf-q8_0"  # most common choice
CUSTOM_FORM = ""  # the run's own rows


def _format_title(name: str) -> str:
    form = FORMS[name]
    family = FAMILY_TITLES[form.family]
    return form.title if form.title.startswith(family) else f"{family}: {form.title}"


def draw_form(model: ExportedModel, rows: Sequence[ModelExportRow]) -> None:
    """Draw the fields and the button."""
    names = model.forms()
    made = {row.form for row in rows}
    usual = next(
        (name for name in (DEFAULT_FORM, "merged", *names) if name in names and name not in made), names[0]
    )
    form = st.selectbox(
        "Format",
        names,
        index=names.index(usual),
        format_func=_format_title,
        key="export-form",
    )
    st.caption(escape_markdown(FORMS[form].when))
    if why := model.refused():
        st.caption(escape_markdown(why))
    body: dict[str, object] = {"subject": model.subject, "form": form}
    if form == "ollama":
        body["gguf"] = st.selectbox(
            "GGUF format",
            GGUF_FORMS,
            index=GGUF_FORMS.index(OLLAMA_GGUF),
            format_func=lambda name: FORMS[name].title,
            key="export-gguf",
        )
    dataset = _draw_rows(model, body)
    body["zip"] = st.checkbox("Create a zip file", key="export-zip")
    hub = st.text_input(
        "Push to the Hugging Face Hub",
        placeholder="owner/name (optional)",
        key="export-hub",
        help="Uses the token of this machine (hf auth login, or HF_TOKEN), which is never stored. New"
        " repositories are private. Exports that fail the parity check are not pushed.",
    )
    if hub.strip():
        body["hub"] = hub.strip()
    if st.button("Export", type="primary", icon=":material/output:", disabled=not dataset) and (
        send_command("export_model", body) is not None
    ):
        st.rerun()


def _draw_rows(model: ExportedModel, body: dict[str, object]) -> bool:
    """Draw the choice of the comparison rows; return whether there are any."""
    sets = {row.dataset_id: row.name for row in cached_queries.list_datasets()}
    choices = [*([CUSTOM_FORM] if model.has_data else []), *sets]
    if not choices:
        st.info(
            "Import a data set first. Its rows are used to compare the export with the model.",
            icon=":material/info:",
        )
        return False
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Comparison rows",
            choices,
            format_func=lambda name: sets.get(
                name, "Test rows of the run, or validation rows if there are none"
            ),
            key="export-dataset",
        )
        most = st.number_input("Maximum rows", 8, 2_000, USUAL_ROWS, key="export-rows")
    st.caption(export_text.describe_rows_needed(int(most)))
    body["max_rows"] = int(most)
    if chosen != CUSTOM_FORM:
        body |= {"dataset": chosen}
        body["part"] = "test" if model.has_data else "all"
    return True
