"""Layout of the Clean tab: the preview on top, findings with their rows on the left, the recipe and saved
recipes on the right.
"""

from __future__ import annotations

import json
from itertools import groupby
from typing import Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from engine.evaluation.verdicts.data_findings import CheckedSignals, Finding, find_findings, list_checked
from pages.data import dataset_queries
from pages.data.cleaning import draft
from pages.data.cleaning.draft import StepDocument, show_row_editor
from pages.data.cleaning.preview import job_key, show_apply, show_job, show_preview, whole_key
from pages.data.cleaning.recipe_editor import show_recipe
from pages.data.dataset_queries import RowWithValue
from pages.data.explore.row import format_signal
from pages.data.explore.row_filter import ROWS_TAB, open_row, open_tab, show_in_table
from pages.data.measurements import list_measurable_groups, show_measurement_progress
from pages.data.slices import draw_share_switch, save_named
from pages.people.activity_feed import describe_owner
from pages.shared import text_display
from pages.shared.session import (
    escape_markdown,
    get_current_person,
    has_right,
    require_member,
    send_command,
    show_error,
    show_errors,
)
from pages.shared.text_display import show_row
from store.core.config import to_yaml
from store.core.errors import ConfigError, EngineUnavailable, TunebenchError
from store.core.formatting import plural
from store.data.cleaning import Recipe
from store.data.filters import BASE, SOURCE, Filter
from store.data.saved_recipes import can_edit
from store.data.schemas import CleanPreview, Dataset, RecipeRow
from store.data.signals import GROUPS, SIGNALS


def show_saved_recipes(dataset: Dataset) -> None:
    """Draw a collapsed panel to save and load recipes and to show or paste their YAML."""
    with st.expander(
        "Save, load, YAML", icon=":material/bookmark:", on_change="rerun", key="clean-saved"
    ) as box:
        if box.open:
            _draw_save(dataset.dataset_id)
            _draw_load(dataset.dataset_id)
            _draw_yaml(dataset.dataset_id)


def _list_recipes() -> list[RecipeRow]:
    return dataset_queries.list_recipes(get_current_person().person_id)


def _draw_save(dataset_id: str) -> None:
    steps, wrong = draft.validate_steps(draft.get_steps(dataset_id))
    with st.form(f"recipe-save-{dataset_id}", border=False):
        name = st.text_input("Save this recipe as", max_chars=80, disabled=not steps)
        shared = st.toggle("Share with everyone", value=True, disabled=not steps, key="recipe-shared")
        pressed = st.form_submit_button("Save", icon=":material/save:", disabled=not steps)
    if wrong and draft.get_steps(dataset_id):
        st.caption(escape_markdown(wrong))
    body = {"name": (name or "").strip(), "steps": steps, "shared": shared}
    save_named("save_recipe", body, _list_recipes(), "The recipe is saved.", "recipe", pressed=pressed)


def _draw_load(dataset_id: str) -> None:
    saved = {recipe.recipe_id: recipe for recipe in _list_recipes()}
    if not saved:
        st.caption("No recipe is saved yet.")
        return
    chosen = st.selectbox(
        "Saved recipes",
        list(saved),
        None,
        format_func=lambda recipe_id: _format_label(saved[recipe_id]),
        placeholder="Choose one",
        key=f"recipe-load-{dataset_id}",
    )
    recipe = saved.get(chosen) if chosen else None
    with st.container(horizontal=True):
        st.button(
            "Use it",
            icon=":material/download:",
            disabled=recipe is None,
            key="recipe-use",
            on_click=draft.set_steps,
            args=(dataset_id, recipe.steps if recipe else []),
        )
        gone = st.button(
            "Delete it",
            icon=":material/delete:",
            type="tertiary",
            disabled=recipe is None or not can_edit(recipe, get_current_person()),
            key="recipe-gone",
        )
        if recipe:
            draw_share_switch("save_recipe", {"steps": recipe.steps}, recipe, f"recipe-{recipe.recipe_id}")
    if not (gone and recipe):
        return
    body = {"name": recipe.name, "recipe_id": recipe.recipe_id}
    if send_command("delete_recipe", body, "The recipe is deleted.") is not None:
        st.rerun()


def _format_label(recipe: RecipeRow) -> str:
    return f"{recipe.name} ({', '.join([plural(len(recipe.steps), 'step'), *describe_owner(recipe)])})"


def _draw_yaml(dataset_id: str) -> None:
    steps = draft.get_steps(dataset_id)
    if steps:
        st.code(to_yaml({"steps": steps}), "yaml", height=200)
    with st.form(f"recipe-yaml-{dataset_id}", border=False, clear_on_submit=False):
        pasted = st.text_area("Paste a recipe", height=100, placeholder="steps:\n- step: fix_encoding")
        pressed = st.form_submit_button("Use pasted text", icon=":material/content_paste:")
    if not pressed:
        return
    try:
        recipe = Recipe.from_yaml(pasted or "")
    except ConfigError as error:
        show_error(error)
        return
    draft.set_steps(dataset_id, recipe.model_dump(exclude_none=True)["steps"])
    st.rerun()


PAGE = 20
MAX_TEXT_CHARACTERS = 800  # characters per turn; an omission is stated


def show_finding_rows(dataset: Dataset, finding: Finding) -> None:
    """Open a dialog with the rows of a finding: one by one, or the rows of a group side by side.

    Every row of a group is compared with the first, differing words marked, which shows how near the near
    duplicates are.
    """
    column = finding.column
    together = column if SIGNALS[column].type == "group" else "prompt_group" if column == "conflict" else ""

    def rows() -> None:
        with show_errors():
            _draw_rows(dataset, finding, together)

    st.dialog(finding.title.replace("[", "(").replace("]", ")"), width="large")(rows)()


def _draw_rows(dataset: Dataset, finding: Finding, together: str) -> None:
    where = json.dumps(finding.where)
    key = f"found-page-{finding.column}"
    offset = PAGE * (st.session_state.get(key, 1) - 1)
    total, rows = dataset_queries.find_full_rows(
        dataset.dataset_id, where, together, finding.column, PAGE, offset
    )
    if not rows:
        st.caption("No row matches any more: the rows have been measured again.")
        return
    note = ", group by group; the words that differ from the first are marked" if together else ""
    st.caption(f"{offset + 1:,} to {offset + len(rows):,} of {plural(total, 'row')}{note}.")
    if st.button(
        "Open in the table",
        icon=":material/filter_alt:",
        key=f"found-table-{finding.column}",
        on_click=show_in_table,
        args=(dataset.dataset_id, Filter.parse(finding.where)),
    ):
        st.rerun()
    if together:
        for _, group in groupby(rows, lambda row: row["group"]):
            _draw_group(dataset, list(group))
    else:
        for row in rows:
            _draw_single_row(dataset, row, finding)
    if total > PAGE:
        st.pagination(-(-total // PAGE), key=key)


def _draw_group(dataset: Dataset, rows: list[RowWithValue]) -> None:
    first = rows[0]
    with st.container(border=True, gap="small"):
        if len(rows) == 1:
            st.caption(f"Row {first['row_id']:,}; the rest of its group is on the previous or next page.")
            st.html(text_display.render_pair(None, first, ("", f"Row {first['row_id']:,}")))
        for other in rows[1:]:
            titles = (f"Row {first['row_id']:,}", f"Row {other['row_id']:,}")
            st.html(text_display.render_pair(first, other, titles))
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            for row in rows[:2]:
                _draw_edit_button(dataset, row["row_id"])


def _draw_single_row(dataset: Dataset, row: RowWithValue, finding: Finding) -> None:
    signal = SIGNALS[finding.column]
    value = row["value"]
    measured = "" if signal.type == "flag" or value is None else f": {format_signal(signal, value)}"
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.caption(escape_markdown(f"Row {row['row_id']:,}{measured and f' · {signal.title}{measured}'}"))
            _draw_edit_button(dataset, row["row_id"])
        show_row(row, MAX_TEXT_CHARACTERS)


def _draw_edit_button(dataset: Dataset, row_id: int) -> None:
    """Draw a button that opens the row for editing."""
    pressed = st.button(
        f"Edit row {row_id:,}",
        icon=":material/edit_note:",
        type="tertiary",
        key=f"found-edit-{row_id}",
        on_click=_open_for_editing,
        args=(dataset.dataset_id, row_id),
    )
    if pressed:
        st.rerun()


def _open_for_editing(dataset_id: str, row_id: int) -> None:
    open_row(row_id)
    open_tab(dataset_id, ROWS_TAB)
    st.session_state["row-edit"] = True


BADGES = {
    "serious": ":red-badge[:material/priority_high: Serious]",
    "notable": ":orange-badge[:material/warning: Notable]",
    "minor": ":gray-badge[:material/info: Minor]",
    "look": ":blue-badge[:material/visibility: Look at these]",
}


def show_findings(dataset: Dataset) -> None:
    """Draw the findings, the most serious first, then the signals that were checked or not measured yet."""
    working = dataset_queries.list_measurement_jobs(dataset.dataset_id)
    measured = dataset_queries.read_signals(dataset.fingerprint)
    dataset_findings = find_findings(dataset.row_count, measured, GROUPS)
    state = list_checked(measured, list_measurable_groups(dataset))
    st.subheader(plural(len(dataset_findings), "finding") if dataset_findings else "Findings", anchor=False)
    if working:
        show_measurement_progress(dataset.dataset_id, len(working))
    elif not measured:
        st.markdown("Not measured yet. Measure to find problems in these rows.")
        if st.button("Measure now", type="primary", icon=":material/speed:", key="clean-measure"):
            _measure(dataset.dataset_id, [g.name for g in GROUPS.values() if g.automatic])
    for finding in dataset_findings:
        _draw_finding(dataset, finding)
    if measured and not dataset_findings:
        st.success(
            f"All signals are within their healthy range. {plural(len(state.signals), 'signal')} checked on"
            f" {plural(dataset.row_count, 'row')}.",
            icon=":material/check_circle:",
        )
    if measured:
        _draw_checked_signals(dataset, state)


def _draw_finding(dataset: Dataset, finding: Finding) -> None:
    dataset_id, key = dataset.dataset_id, f"finding-{finding.column}"
    with st.container(border=True, gap="xsmall", key=key):
        st.markdown(
            f"**{escape_markdown(finding.title)}**  \n{BADGES[finding.severity]}"
            f" {escape_markdown(finding.measure)}"
        )
        st.caption(escape_markdown(finding.why), help=escape_markdown(finding.severity_reason))
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            for index, fix in enumerate(finding.fixes):
                added = draft.has_steps(dataset_id, fix.steps)
                st.button(
                    "In the recipe" if added else fix.label,
                    icon=":material/check:" if added else ":material/add:" if index else ":material/build:",
                    type="secondary" if index == 0 and finding.severity != "look" else "tertiary",
                    disabled=added,
                    key=f"fix-{finding.column}-{index}",
                    on_click=_add_steps,
                    args=(dataset_id, fix.steps),
                )
            likely: Literal["secondary", "tertiary"] = (
                "secondary" if finding.severity == "look" else "tertiary"
            )
            if st.button("Show rows", icon=":material/table_rows:", type=likely, key=f"show-{key}"):
                show_finding_rows(dataset, finding)


def _add_steps(dataset_id: str, steps: tuple[StepDocument, ...]) -> None:
    """Callback of a fix; a toast confirms it, because on a phone the recipe may be out of view."""
    draft.append_steps(dataset_id, steps)
    count = plural(len(draft.get_steps(dataset_id)), "step")
    st.toast(f"Added. The recipe has {count}.", icon=":material/check:")


def _draw_checked_signals(dataset: Dataset, state: CheckedSignals) -> None:
    names = ", ".join(state.signals)
    with st.expander(f"{plural(len(state.signals), 'signal')} checked", icon=":material/fact_check:"):
        st.caption(escape_markdown(f"{names}."))
    missing = [group for group in GROUPS.values() if group.title in state.missing]
    if not missing or not has_right("work"):
        return
    st.caption(f"Not measured yet: {escape_markdown(', '.join(group.title for group in missing))}.")
    chosen = st.selectbox(
        "Measure",
        [group.name for group in missing],
        None,
        format_func=lambda name: GROUPS[name].title,
        placeholder="Measure more",
        label_visibility="collapsed",
        key=f"clean-more-{dataset.dataset_id}",
    )
    if chosen and st.button("Measure", icon=":material/speed:", key="clean-more"):
        _measure(dataset.dataset_id, [chosen])


def _measure(dataset_id: str, groups: list[str]) -> None:
    asked = [send_command("profile", {"dataset": dataset_id, "group": group}) for group in groups]
    if any(answer is not None for answer in asked):
        st.rerun()


# On a phone the findings are several screens long; the summary and its button stay visible above them.
STICKY_STYLE = """
<style>
@media (max-width: 640px) {
  div:has(> .st-key-clean-next) {position: sticky; top: 3.75rem; z-index: 20}
  .st-key-clean-next {background: Canvas}
  #recipe {scroll-margin-top: 13rem}
}
</style>
"""


def show_clean(dataset: Dataset) -> None:
    """Draw findings, recipe and preview, and create the new version of one data set.

    The button of a finding adds its fix to the recipe, the preview follows every change, and one button
    creates the new version. The old version never changes.
    """
    dataset_id = dataset.dataset_id
    job_id = st.session_state.get(job_key(dataset_id))
    if job_id:
        with show_errors():
            show_job(dataset, job_id)
        return
    if not require_member("clean this data set with a recipe; its findings are below"):
        with show_errors():
            show_findings(dataset)
        return
    drafted = draft.get_steps(dataset_id)
    # Above both columns, so that on a phone it is not below all findings.
    make = st.container(border=True, key="clean-next") if drafted else None
    st.html(STICKY_STYLE)
    left, right = st.columns([3, 2], gap="large")
    with left, show_errors():
        show_findings(dataset)
    with right, show_errors():
        show_recipe(dataset, list_filter_columns(dataset))
        show_row_editor(dataset)
        show_saved_recipes(dataset)
    if make is None:
        return
    steps, wrong = draft.validate_steps(drafted)
    if wrong:
        with make:
            st.error(escape_markdown(wrong), icon=":material/error:")
        return
    _draw_preview_and_apply(dataset, steps, make)


def _draw_preview_and_apply(dataset: Dataset, steps: list[StepDocument], make: DeltaGenerator) -> None:
    """Draw the preview, and the button with its summary in `make`; no button if the recipe is invalid."""
    slot = make.empty()
    with slot.container(), st.spinner("Trying the recipe on the rows …", show_time=True):
        answer: CleanPreview | None
        failed: TunebenchError | None
        try:
            whole = st.session_state.get(whole_key(dataset.dataset_id)) == steps
            answer = dataset_queries.preview_cleaning(dataset.dataset_id, steps, whole=whole)
            failed = None
        except TunebenchError as error:
            answer, failed = None, error
    with slot.container(), show_errors():
        if failed and not isinstance(failed, EngineUnavailable):
            show_error(failed)
        if not isinstance(failed, ConfigError):
            show_apply(dataset, steps, answer)
    if answer is not None:
        show_preview(dataset, answer)
    elif isinstance(failed, EngineUnavailable):
        st.caption(":material/cloud_off: The preview needs the engine.")


def list_filter_columns(dataset: Dataset) -> list[str]:
    """Columns that a filter may use: those of every data set, measured signals, and columns of the file."""
    measured = dataset_queries.read_signals(dataset.fingerprint)
    current = [name for name, row in measured.items() if not row.outdated]
    signals = [signal.column for name in current for signal in GROUPS[name].signals]
    of_file = [f"{SOURCE}{column}" for column in dataset.columns.values()]
    return [*BASE, *signals, *dict.fromkeys(of_file)]
