"""The Launch page.

The form can be submitted unchanged. Cost and one rendered row are requested from the engine for each config;
errors are shown at their fields, and the button says why it is disabled.
"""

from __future__ import annotations

import streamlit as st

from pages.shared import cached_queries, run_queries
from pages.shared import config_fields as fields
from pages.shared.config_fields import validate_config
from pages.shared.session import escape_markdown, get_client, require_member, show_error, show_errors
from pages.training import form, method_advice, preview
from pages.training.form import draw_yaml
from store.core.errors import TunebenchError
from store.core.schemas import ConfigDocument
from store.data.schemas import Dataset
from store.training.train_config import TrainConfig

REFUSED_KEY = "launch-refused"


def main() -> None:
    st.title("Launch", anchor=False)
    with show_errors():
        if not require_member("launch runs here and see the estimated cost first"):
            return
        form.fill_from_link(st.query_params)
        draw_launch()


def draw_launch() -> None:
    document = fields.read_document()
    config, wrong = validate_config(document)
    dataset = _find_dataset(document.get("dataset"))
    asked = (
        preview.build_question(config, dataset, st.session_state.get("launch-row", 0))
        if config and dataset
        else ""
    )
    last = preview.get_last_preview()
    current = last if last and asked and last.question == asked else None
    notes = _collect_notes(wrong, current, document)
    resolved = preview.resolve_fields(config, dataset)
    left, right = st.columns([3, 2], gap="large")
    with left:
        form_tab, yaml_tab = st.tabs([":material/list_alt: Form", ":material/code: YAML"])
        with form_tab:
            form.draw_choices(notes)
            advice = method_advice.draw_advice(config, dataset)
            form.draw_name_and_notes(str(resolved.get("name") or ""), notes)
            form.draw_hyperparameters(config, resolved, notes)
        with yaml_tab:
            draw_yaml(document)
    with right, st.container(border=True):
        draw_launch_panel(document, config, dataset, current, notes)
    if current and current.answer and current.answer.row:
        with st.container(border=True):
            preview.show_row(current.answer)
    if asked and current is None:
        with right, st.spinner("Reading the rows with the model's tokenizer …", show_time=True):
            preview.ask_preview(asked)
        st.rerun()
    if current and current.times_steps_next:
        with right, st.spinner("Timing a few steps on this machine, ten to twenty seconds …", show_time=True):
            preview.ask_preview(asked, time_steps=True)
        st.rerun()
    if advice:
        with form_tab, st.spinner("Estimating what each method needs …", show_time=True):
            method_advice.ask_advice(advice)
        st.rerun()


def draw_launch_panel(
    document: ConfigDocument,
    config: TrainConfig | None,
    dataset: Dataset | None,
    current: preview.PreviewQuery | None,
    notes: form.Notes,
) -> None:
    """Draw the preview with its cost, and the launch button."""
    st.subheader("Preview", anchor=False)
    if current and current.answer:
        preview.show_cost(current.answer)
        preview.show_fitting(current.answer)
        if config and dataset:
            preview.show_leak_fixes(current.answer, config, dataset)
    elif config and dataset and current is None:
        st.skeleton(height=220)
    preview.show_general(notes, set(TrainConfig.model_fields))
    reason = _explain_blocked(config, dataset, current, notes)
    pressed = st.button(
        "Launch",
        type="primary",
        icon=":material/rocket_launch:",
        width="stretch",
        disabled=bool(reason),
        key="launch-button",
    )
    if reason:
        st.caption(reason)
    if pressed and config:
        launch_run(document, config)


def launch_run(document: ConfigDocument, config: TrainConfig) -> None:
    """Send the config; on success open the run's page, else show the error at its field."""
    try:
        answer = get_client().command("launch", config.model_dump(exclude_none=True))
    except TunebenchError as error:
        if error.field not in TrainConfig.model_fields:
            show_error(error)
            return
        st.session_state[REFUSED_KEY] = (document, error.field, str(error))
        st.rerun()
    st.cache_data.clear()
    st.switch_page("pages/runs/run.py", query_params={"run": answer["run_id"]})


def _find_dataset(name: str | None) -> Dataset | None:
    return next((row for row in run_queries.list_all_datasets() if name in (row.name, row.dataset_id)), None)


def _collect_notes(
    wrong: dict[str, str], current: preview.PreviewQuery | None, document: ConfigDocument
) -> form.Notes:
    """Collect messages by field: validation errors, problems of the preview, and refusals of a launch."""
    notes: form.Notes = preview.group_notes_by_field(current.problems) if current else {}
    for field, message in wrong.items():
        if field != "dataset" or document.get("dataset"):
            notes.setdefault(field, []).append(("error", message))
    refused = st.session_state.get(REFUSED_KEY)
    if refused and refused[0] == document:
        notes.setdefault(refused[1], []).append(("error", refused[2]))
    return notes


def _explain_blocked(
    config: TrainConfig | None,
    dataset: Dataset | None,
    current: preview.PreviewQuery | None,
    notes: form.Notes,
) -> str:
    """Explain why the run cannot be launched; "" if it can."""
    wrong = [(field, message) for field in notes for level, message in notes[field] if level == "error"]
    if wrong:
        field, message = wrong[0]
        return escape_markdown(message) if field in TrainConfig.model_fields else "See the message above."
    if not cached_queries.list_datasets():
        return "No data sets yet. Import one first."
    if config is None or dataset is None:
        return "Choose a data set."
    return "" if current else "Estimating cost …"


main()
