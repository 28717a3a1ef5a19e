"""The split of a data set into train, validation and test: settings, fixes for leakage between parts, and
overlap with other data sets.
"""

from __future__ import annotations

from typing import Literal, cast

import streamlit as st

from pages.data import dataset_queries
from pages.data.cleaning.preview import job_key
from pages.data.explore.row_filter import CLEAN_TAB, format_column, open_tab, show_in_table
from pages.people.edit_conflicts import FieldEdit
from pages.shared import cached_queries, display, meters
from pages.shared.display import format_share
from pages.shared.model_form import ModelForm
from pages.shared.session import escape_markdown, send_command, show_error, show_errors
from pages.shared.text_display import render_pair
from store.core.errors import ConfigError
from store.core.formatting import plural
from store.core.model_fields import FieldDisplay
from store.core.row_schemas import Overlap, SplitCounts
from store.data.datasets import get_split_fields
from store.data.filters import Filter
from store.data.schemas import Dataset
from store.jobs.schemas import SplitFields
from store.training.split import Split
from store.training.train_config import TrainConfig

RANDOM = (
    "Equal rows and near duplicates stay in the same split. Results are not comparable with results "
    "on the file's own splits."
)


def show_leak_fixes(dataset: Dataset, dealt: SplitCounts, edit: FieldEdit, settings: SplitFields) -> None:
    """Draw a button for each fix of the leakage, and one that shows the rows."""
    rows, listed = dealt["leaking_rows"], dealt["leaking"]
    dataset_id = dataset.dataset_id
    key = f"leaks-{dataset_id}"
    with st.container(horizontal=True, vertical_alignment="center", key=f"{key}-ways"):
        st.button(
            f"Remove {plural(rows, 'training row')}",
            icon=":material/person_remove:",
            key=f"{key}-drop",
            disabled=len(listed) < rows,
            help="Creates a new version without the training rows that repeat a held-out row; the splits "
            "stay the same.",
            on_click=_drop_rows,
            args=(dataset_id, listed),
        )
        at_random = st.button("Split at random", icon=":material/shuffle:", key=f"{key}-deal", help=RANDOM)
        st.button(
            "Show these rows",
            icon=":material/filter_alt:",
            type="tertiary",
            key=f"{key}-show",
            on_click=show_in_table,
            args=(dataset_id, Filter(row_ids=listed)),
        )
    if len(listed) < rows:
        st.caption(
            f"Too many to list: the first {len(listed):,} of {plural(rows, 'training row')} are shown."
        )
    typed = {**settings, "split_by": "random", "split_column": None}
    if at_random and edit.save("set_split", {"dataset": dataset_id}, typed, "Rows split at random."):
        st.rerun()


def _drop_rows(dataset_id: str, rows: list[int]) -> None:
    """Start creating the new version, and open the tab that shows its progress."""
    step = {"step": "filter", "where": {"row_ids": rows}, "action": "drop"}
    made = send_command("clean", {"dataset": dataset_id, "name": "", "recipe": {"steps": [step]}})
    if made is not None:
        st.session_state[job_key(dataset_id)] = made["job_id"]
        open_tab(dataset_id, CLEAN_TAB)


SHOWN = 6  # pairs drawn side by side


def show_overlap(dataset: Dataset) -> None:
    """Draw a choice of another data set, and the rows that both contain."""
    others = {
        row.dataset_id: row
        for row in cached_queries.list_datasets()
        if row.fingerprint != dataset.fingerprint
    }
    st.subheader("Overlap with another data set", anchor=False)
    if not others:
        st.caption("No other data set to compare with. Import one first.")
        return
    key = f"overlap-{dataset.dataset_id}"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox("Other data set", list(others), format_func=lambda i: others[i].name, key=key)
        if st.button("Compare", icon=":material/compare_arrows:", key=f"{key}-button"):
            st.session_state[f"{key}-asked"] = chosen
    asked = st.session_state.get(f"{key}-asked")
    if asked in others:
        with show_errors(), st.spinner("Comparing every row …", show_time=True):
            overlap = dataset_queries.find_overlap(dataset.fingerprint, others[asked].fingerprint)
            _draw_overlap(dataset, others[asked], overlap)


def _draw_overlap(dataset: Dataset, other: Dataset, overlap: Overlap) -> None:
    name, total = escape_markdown(other.name), overlap["rows"]
    if not (overlap["exact"] or overlap["near"] or overlap["same_prompt"]):
        st.success(f"None of the {plural(total, 'row')} is in {name}.", icon=":material/check_circle:")
        return
    counted = (
        ("Equal rows", overlap["exact"]),
        ("Near duplicates", overlap["near"]),
        ("Same prompt", overlap["same_prompt"]),
    )
    of = f"of {plural(total, 'row')}"
    st.html(
        meters.render_facts(
            [(title, f"{rows:,}", f"{format_share(rows, total)} {of}") for title, rows in counted]
        )
    )
    st.caption(f"Rows of this data set that are also in {name} ({plural(overlap['other_rows'], 'row')}).")
    examples = overlap["examples"]
    if not examples:
        return
    ids = overlap["row_ids"]
    meant = sum(rows for _, rows in counted)
    all_of = "all" if len(ids) == meant else f"the first {len(ids):,} of"
    st.button(
        f"Show {all_of} {plural(meant, 'row')} in the table",
        key="overlap-show",
        icon=":material/filter_alt:",
        on_click=show_in_table,
        args=(dataset.dataset_id, Filter(row_ids=ids)),
    )
    for place, (ours, theirs, similarity) in enumerate(examples[:SHOWN]):
        _draw_overlap_pair(dataset, other, ours, theirs, similarity, place)
    if len(examples) > SHOWN:
        st.caption(f"The first {SHOWN} of {len(examples):,} examples are shown.")


def _draw_overlap_pair(
    dataset: Dataset, other: Dataset, ours: int, theirs: int, similarity: float, place: int
) -> None:
    first = cached_queries.read_dataset_row(dataset.dataset_id, ours)[0]
    second = cached_queries.read_dataset_row(other.dataset_id, theirs)[0]
    with st.container(border=True, key=f"overlap-pair-{place}"):
        theirs_title = f"Row {theirs:,} of {other.name}, {100 * similarity:.0f}% similar"
        st.html(render_pair(first, second, (f"Row {ours:,} here", theirs_title)))


BY = {
    "random": "At random",
    "group": "By group: equal values stay in the same split",
    "time": "By time: the newest rows are held out",
    "stratified": "Stratified: each value keeps its share in every split",
    "given": "As given in the file",
}
SHARE = FieldDisplay(scale=100, step=1)  # of the rows, in per cent
SplitPart = Literal["train", "validation", "test"]
PARTS: tuple[tuple[SplitPart, str], ...] = (
    ("train", "Training"),
    ("validation", "Validation"),
    ("test", "Test"),
)
TITLES = {
    "split_by": "Split",
    "split_column": "Column",
    "validation_size": "Validation",
    "test_size": "Test",
    "split_seed": "Seed",
}


def show_split(dataset: Dataset) -> None:
    """Draw the editable split settings with the resulting counts, then the overlap with another data set."""
    st.caption(
        "Validation selects the best step; only the verdict uses test. Equal rows stay together, and so "
        "do near duplicates once measured."
    )
    with show_errors():
        _show_assignment(dataset)
    show_overlap(dataset)


def _show_assignment(dataset: Dataset) -> None:
    present = get_split_fields(dataset)
    present["split_by"] = present["split_by"] or "random"
    edit = FieldEdit(f"split-{dataset.dataset_id}", present, whole=True)
    settings = _draw_split_fields(dataset, edit)
    try:
        split = Split.parse(settings)
    except ConfigError as error:
        show_error(error)
        return
    with st.spinner("Splitting the rows …"):
        dealt = dataset_queries.count_split_rows(dataset.fingerprint, split)
    total = sum(dealt["rows"][part] for part, _ in PARTS)
    st.html(
        meters.render_facts(
            [
                (title, plural(dealt["rows"][part], "row"), display.format_share(dealt["rows"][part], total))
                for part, title in PARTS
            ]
            + [("Kept together", plural(dealt["kept_together"], "row"), "moved to keep duplicates together")]
        )
    )
    most = TrainConfig.model_fields["max_eval_rows"].default
    if max(dealt["rows"]["validation"], dealt["rows"]["test"]) > most:
        st.caption(f"A run evaluates at most {most:,} rows of a split, unless its max_eval_rows is larger.")
    for problem in dealt["problems"]:
        text = escape_markdown(f"{problem['message']} {problem['fix']}".strip())
        if problem["level"] == "info":
            st.caption(text)
        else:
            st.warning(text, icon=":material/warning:")
    if edit.seen["split_by"] == settings["split_by"] == "given" and dealt["leaking_rows"]:
        show_leak_fixes(dataset, dealt, edit, settings)
    _save_split(dataset, edit, settings)


def _draw_split_fields(dataset: Dataset, edit: FieldEdit) -> SplitFields:
    form = ModelForm(Split, f"split-{dataset.dataset_id}-", edit.seen)
    shares = st.container(horizontal=True, vertical_alignment="bottom")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        by = form.draw_field("split_by", choices=BY, label="Split", key=edit.widget_key("split_by"))
        column = _choose_column(dataset, by, edit) if by not in ("random", "given") else None
    given = (dataset.stats.get("parts") or {}) if by == "given" else {}  # without effect for given parts
    with shares:
        for part, title in PARTS[1:]:
            form.draw_field(
                f"{part}_size",
                label=f"{title} %",
                key=edit.widget_key(f"{part}_size"),
                disabled=part in given,
                display=SHARE,
            )
        form.draw_field("split_seed", label="Seed", key=edit.widget_key("split_seed"))
    return cast(SplitFields, {**form.values, "split_column": column})  # all fields of Split


def _choose_column(dataset: Dataset, by: str, edit: FieldEdit) -> str | None:
    """Draw the choice of the column: the label, or a column of the file."""
    columns = dataset_queries.build_table(dataset.dataset_id).columns
    names = [name for name in columns if name == "label" or name.startswith("source.")]
    own = edit.seen["split_column"]
    place = names.index(own) if own in names else 0
    key = f"{edit.widget_key('split_column')}-{by}"
    chosen: str | None = st.selectbox(
        "Column", names, place, format_func=lambda name: format_column(columns[name]), key=key
    )
    return chosen


def _save_split(dataset: Dataset, edit: FieldEdit, settings: SplitFields) -> None:
    changed = edit.changed(settings)
    pressed = st.button(
        "Save split",
        type="primary",
        disabled=not changed,
        icon=":material/save:",
        key=f"split-{dataset.dataset_id}-save",
    )
    mine = edit.take_mine(TITLES, settings, _format_field_value)
    body = {"dataset": dataset.dataset_id}
    if (pressed or mine) and edit.save("set_split", body, settings, "Split saved."):
        st.rerun()
    if changed:
        st.caption("Existing runs keep their split.")


def _format_field_value(value: object) -> str:
    """Format a field's value for a choice between two conflicting values."""
    if isinstance(value, float):
        return f"{100 * value:g}%"
    return BY.get(str(value), "none" if value is None else str(value))
