"""The tab "Clean": what is wrong on the left, the recipe on the right, what it would do above and below.

A finding's button puts its fix into the recipe; the preview follows every change; one button makes the new
version. The old version is never touched.
"""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.data.clean.clean_findings import show_findings
from pages.data.clean.clean_make import job_key, show_job, show_make, whole_key
from pages.data.clean.clean_preview import show_preview
from pages.data.clean.clean_recipe import show_recipe
from pages.data.clean.clean_saved import show_saved
from pages.data.rows import clean_draft, clean_reads
from pages.data.rows.clean_draft import StepDocument
from pages.data.rows.clean_row_edit import show_row_editor
from pages.shared.session import guarded, is_for_members, plain, show_error
from store.catalog.signals import GROUPS
from store.config.data.filters import BASE, SOURCE
from store.contract.errors import ConfigError, EngineUnavailable, TunebenchError
from store.documents.data.clean_preview import CleanPreview
from store.documents.tables.dataset import Dataset

# On a phone the findings are several screens long: what to do next stays in sight above them.
STAYS = """
<style>
@media (max-width: 640px) {
  div:has(> .st-key-clean-next) {position: sticky; top: 3.75rem; z-index: 20}
  .st-key-clean-next {background: Canvas}
  #recipe {scroll-margin-top: 13rem}
}
</style>
"""


def show_clean(dataset: Dataset) -> None:
    """Findings, recipe, preview and the new version of one data set."""
    dataset_id = dataset["dataset_id"]
    job_id = st.session_state.get(job_key(dataset_id))
    if job_id:
        with guarded():
            show_job(dataset, job_id)
        return
    if not is_for_members("clean this data set by a recipe; what is wrong with it stands below"):
        with guarded():
            show_findings(dataset)
        return
    drafted = clean_draft.steps(dataset_id)
    # Over both columns, so that on a phone the next step does not lie under every finding.
    make = st.container(border=True, key="clean-next") if drafted else None
    st.html(STAYS)
    left, right = st.columns([3, 2], gap="large")
    with left, guarded():
        show_findings(dataset)
    with right, guarded():
        show_recipe(dataset, known_columns(dataset))
        show_row_editor(dataset)
        show_saved(dataset)
    if make is None:
        return
    steps, wrong = clean_draft.check(drafted)
    if wrong:
        with make:
            st.error(plain(wrong), icon=":material/error:")
        return
    _preview_and_make(dataset, steps, make)


def _preview_and_make(dataset: Dataset, steps: list[StepDocument], make: DeltaGenerator) -> None:
    """The preview, and the button with its summary in `make`; no button where the recipe can't be run."""
    slot = make.empty()
    with slot.container(), st.spinner("Trying the recipe on the rows …", show_time=True):
        answer: CleanPreview | None
        failed: TunebenchError | None
        try:
            whole = st.session_state.get(whole_key(dataset["dataset_id"])) == steps
            answer = clean_reads.preview(dataset["dataset_id"], steps, whole=whole)
            failed = None
        except TunebenchError as error:
            answer, failed = None, error
    with slot.container(), guarded():
        if failed and not isinstance(failed, EngineUnavailable):
            show_error(failed)
        if not isinstance(failed, ConfigError):
            show_make(dataset, steps, answer)
    if answer is not None:
        show_preview(dataset, answer)
    elif isinstance(failed, EngineUnavailable):
        st.caption(":material/cloud_off: The preview needs the engine.")


def known_columns(dataset: Dataset) -> list[str]:
    """Columns that a filter may name: those of every data set, what was measured, and those of the file."""
    measured = clean_reads.signals(dataset["fingerprint"])
    current = [name for name, row in measured.items() if not row["outdated"]]
    signals = [signal.column for name in current for signal in GROUPS[name].signals]
    of_file = [f"{SOURCE}{column}" for column in dataset["columns"].values()]
    return [*BASE, *signals, *dict.fromkeys(of_file)]
