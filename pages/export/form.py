"""The export form: format, rows on which the export is compared with the model, and destination; and the
queries of the tab.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from pages.shared import cached_queries
from pages.shared.model_form import ModelForm
from pages.shared.session import cached, escape_markdown, get_client, send_command
from store.core.export_schemas import ModelExportRow
from store.core.model_schemas import ModelVersion
from store.core.schemas import Job
from store.export import exports
from store.export import text as export_text
from store.export.config import ModelExport
from store.export.forms import FAMILY_TITLES, FORMS, GGUF_FORMS
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


@cached(cached_queries.LIVE, max_entries=64)
def list_exports(run_id: str | None, model_id: str | None, version: int | None) -> list[ModelExportRow]:
    """Exports of the model, newest first."""
    if run_id is not None:
        return exports.of_run(get_client(), run_id)
    assert model_id is not None
    assert version is not None
    return exports.of_version(get_client(), model_id, version)


@cached(cached_queries.LIVE, max_entries=64)
def list_verifications(export: str) -> list[Job]:
    """Repeated verifications of an export, newest first."""
    return exports.verifications(get_client(), export)


@cached(cached_queries.LIVE, max_entries=64)
def list_unfinished(subject: str) -> list[Job]:
    """Active exports, and those that ended without a result."""
    return exports.unfinished(get_client(), subject)


DEFAULT_FORM = "gguf-q8_0"  # most common choice
OWN_ROWS = ""  # value of the choice of rows: those of the run


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
    form = ModelForm(ModelExport, "export-")
    form.put(subject=model.subject)
    chosen = form.draw_field("form", choices={name: _format_title(name) for name in names}, present=usual)
    st.caption(escape_markdown(FORMS[chosen].when))
    if why := model.refused():
        st.caption(escape_markdown(why))
    if chosen == "ollama":
        form.draw_field("gguf", choices={name: FORMS[name].title for name in GGUF_FORMS})
    has_rows = _draw_rows(model, form)
    form.draw("zip", "hub")
    if form.values["hub"]:
        form.draw("private")
    if st.button("Export", type="primary", icon=":material/output:", disabled=not has_rows):
        config = form.parse()
        if config and send_command("export_model", config) is not None:
            st.rerun()


def _draw_rows(model: ExportedModel, form: ModelForm[ModelExport]) -> bool:
    """Draw the choice of the comparison rows; return whether there are any."""
    choices = {row.dataset_id: row.name for row in cached_queries.list_datasets()}
    if model.has_data:
        choices = {OWN_ROWS: "Test rows of the run, or validation rows if there are none"} | choices
    if not choices:
        st.info(
            "Import a data set first. Its rows are used to compare the export with the model.",
            icon=":material/info:",
        )
        return False
    with st.container(horizontal=True, vertical_alignment="bottom"):
        dataset = form.draw_field("dataset", choices=choices, present=next(iter(choices)))
        most = form.draw_field("max_rows", width=160)
    if most:
        st.caption(export_text.describe_rows_needed(most))
    if dataset != OWN_ROWS:
        form.put(part="test" if model.has_data else "all")
    return True
